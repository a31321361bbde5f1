"""Every backbone is MONAI's network, with its features at hand and its decoder apart."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from monai.networks.nets import MedNeXtB, MedNeXtL, MedNeXtM, MedNeXtS
from small_networks import MONAI, PATCHES, SMALL
from torch import Tensor, nn

from datamodules.errors import UsageError
from lightning_modules.keyed_initialisation import keyed_initialisation
from lightning_modules.networks.backbone import Backbone
from lightning_modules.networks.config import NETWORKS, MedNeXtConfig, NetworkConfig, SegResNetConfig, SwinUNETRConfig
from lightning_modules.networks.mednext import monai_mednext

EACH = pytest.mark.parametrize("name", SMALL)


def build(name: str, seed: int = 0) -> Backbone:
    network: Backbone = NETWORKS.build(SMALL[name], seed)
    return network


def patches(name: str, samples: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(samples, 1, *PATCHES[name], generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_every_registered_network_is_tried_here() -> None:
    assert list(SMALL) == NETWORKS.names() == [config.name for config in SMALL.values()]


@EACH
def test_logits_and_gradients_equal_monais_own_in_either_mode(name: str) -> None:
    ours = build(name, seed=3).double()
    with keyed_initialisation(3, "backbone"):
        theirs = MONAI[name](SMALL[name]).double()
    x = patches(name, dtype=torch.float64)
    found, expected = ours(x).logits, theirs(x)
    assert found.shape == x.shape
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    norms = []
    for loss, network in ((found.square().mean(), ours), (expected.square().mean(), theirs)):
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        norms.append(sorted(float(gradient.norm()) for gradient in gradients))
    assert norms[0] == pytest.approx(norms[1], rel=1e-6, abs=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x).logits, theirs.eval()(x), rtol=1e-9, atol=1e-9)


@EACH
def test_features_have_the_shapes_that_the_channels_and_strides_say(name: str) -> None:
    network = build(name)
    features = network(patches(name))
    strides = SMALL[name].strides
    assert tuple(sorted(network.encoder_channels)) == tuple(sorted(features.encoder)) == strides
    assert tuple(sorted(network.decoder_channels)) == tuple(sorted(features.decoder)) == strides[:-1]
    assert network.largest_stride == strides[-1]
    for maps, channels in (
        (features.encoder, network.encoder_channels),
        (features.decoder, network.decoder_channels),
    ):
        for stride, width in channels.items():
            assert maps[stride].shape == (1, width, *(edge // stride for edge in PATCHES[name])), stride


@EACH
def test_encoding_runs_nothing_of_the_decoder(name: str) -> None:
    network = build(name)
    ran: list[str] = []
    for part in (network.encoder, network.decoder):
        for layer in part.modules():
            layer.register_forward_hook(lambda *_, which=part: ran.append("e" if which is network.encoder else "d"))
    encoded = network.encode(patches(name))
    assert set(ran) == {"e"}
    ran.clear()
    network.decode(encoded)
    assert set(ran) == {"d"}
    assert not {id(p) for p in network.encoder_parameters()} & {id(p) for p in network.decoder.parameters()}


@EACH
def test_weights_depend_on_the_seed_alone_and_leave_the_global_stream_alone(name: str) -> None:
    torch.manual_seed(1)
    first = build(name, seed=5).state_dict()
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    torch.manual_seed(2)
    again, other = build(name, seed=5).state_dict(), build(name, seed=6).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first if k.startswith("encoder"))
    assert any(not torch.equal(first[k], other[k]) for k in first if k.startswith("decoder"))


@EACH
def test_a_sample_is_seen_alike_in_any_batch_and_any_mode(name: str) -> None:
    """No statistics of the batch, no dropout, no drop path."""
    network = build(name)
    x = patches(name, 2)
    with torch.no_grad():
        together = network.train()(x).logits
        torch.testing.assert_close(together[1:], network.train()(x[1:]).logits, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(together, network.eval()(x).logits, rtol=1e-3, atol=1e-3)
    kinds = {type(layer) for layer in network.modules()}
    assert not kinds & {nn.BatchNorm3d, nn.SyncBatchNorm, nn.Upsample}


@EACH
@pytest.mark.parametrize("stride", [None, 1, 2, 4])
def test_frozen_is_exactly_what_the_features_at_a_stride_do_not_depend_on(name: str, stride: int | None) -> None:
    free = build(name)
    features = free(patches(name))
    coarse = [value.square().mean() for s, value in features.encoder.items() if s > 1]
    read = [] if stride is None else [features.decoder[stride].square().mean()]
    for loss in read:  # of contrast alone
        alone = torch.autograd.grad(loss, free.encoder_parameters(), retain_graph=True, allow_unused=True)
        assert all(gradient is not None for gradient in alone)
    torch.stack([*coarse, *read]).sum().backward()
    reached = {key for key, p in free.named_parameters() if p.grad is not None}
    assert reached >= {f"encoder.{key}" for key, _ in free.encoder.named_parameters()}

    frozen = build(name)
    frozen.freeze_beyond(stride)
    assert {key for key, p in frozen.named_parameters() if p.requires_grad} == reached
    seen = frozen(patches(name))
    assert set(seen.decoder) == {s for s in features.decoder if stride is not None and s >= stride}
    for s, value in seen.decoder.items():
        assert torch.equal(value, features.decoder[s])
    assert torch.equal(seen.logits, torch.zeros(1, 1, *PATCHES[name]))
    assert seen.deep == []


@EACH
@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last_alters_neither_logits_nor_gradients(name: str, batch: int) -> None:
    network = build(name)
    x = patches(name, batch)
    expected = network(x).logits
    gradients = torch.autograd.grad(expected.square().mean(), list(network.parameters()))
    last = torch.channels_last_3d
    logits = network.to(memory_format=last)(x.contiguous(memory_format=last)).logits
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    found = torch.autograd.grad(logits.square().mean(), list(network.parameters()))
    for a, b in zip(found, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


@EACH
def test_in_bf16_maps_stay_channels_last_and_are_near_full_precision(name: str) -> None:
    last = torch.channels_last_3d
    network = build(name).to(memory_format=last)
    x = patches(name, 2).contiguous(memory_format=last)
    expected = network(x).logits
    with torch.autocast("cpu", torch.bfloat16):
        features = network(x)
    maps = {**{f"encoder {s}": m for s, m in features.encoder.items()}, **features.decoder}
    if name == "mednext":
        del maps["encoder 1"]  # of one channel in and kernels of 1 PyTorch can't tell which layout they have
    assert [place for place, m in maps.items() if not m.is_contiguous(memory_format=last)] == []
    features.logits.float().square().mean().backward()
    assert features.logits.dtype == torch.bfloat16
    assert (features.logits - expected).abs().mean() < 0.1 * expected.std() + 0.01
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


SLOW_TO_COMPILE = [pytest.param(name, marks=pytest.mark.slow) if name != "dynunet" else name for name in SMALL]


@pytest.mark.no_cover  # which follows every step of PyTorch's compiler, and of ours sees what other tests run
@pytest.mark.parametrize("name", SLOW_TO_COMPILE)
def test_compiling_keeps_names_values_and_a_graph_that_can_be_measured_first(name: str) -> None:
    x = patches(name)
    plain, compiled = build(name), build(name)
    compiled.compile(backend="aot_eager")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    loss = compiled.decode(compiled.encode(x)).logits.square().mean()
    torch.autograd.grad(loss, compiled.encoder_parameters(), retain_graph=True)
    loss.backward()
    torch.testing.assert_close(loss, plain(x).logits.square().mean(), rtol=1e-4, atol=1e-5)
    assert copy.deepcopy(compiled).state_dict().keys() == plain.state_dict().keys()


def test_mednexts_sizes_are_those_of_monai() -> None:
    with torch.device("meta"):
        for size, theirs in (("S", MedNeXtS), ("B", MedNeXtB), ("M", MedNeXtM), ("L", MedNeXtL)):
            ours = monai_mednext(MedNeXtConfig(size=size))  # type: ignore[arg-type]  # a literal in a loop
            expected = {key: value.shape for key, value in theirs(in_channels=1, out_channels=1).state_dict().items()}
            assert {key: value.shape for key, value in ours.state_dict().items()} == expected, size


def test_mednexts_deep_logits_equal_monais_heads_and_are_gone_in_evaluation() -> None:
    config = replace(SMALL["mednext"], deep_supervision=True)
    ours = NETWORKS.build(config, 3)
    with keyed_initialisation(3, "backbone"):
        theirs = MONAI["mednext"](config)
    x = patches("mednext")
    features, (logits, *deep) = ours(x), theirs(x)
    torch.testing.assert_close(features.logits, logits)
    assert [tuple(d.shape[2:]) for d in features.deep] == [(16, 8, 8), (8, 4, 4)]
    for found, expected in zip(features.deep, deep[:2], strict=True):
        torch.testing.assert_close(found, expected)
    assert ours.eval()(x).deep == []


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (SegResNetConfig(blocks_down=(1, 2), blocks_up=(1,)), "blocks_down"),
        (SegResNetConfig(blocks_down=(1, 0, 2), blocks_up=(1, 1)), "blocks_down"),
        (SegResNetConfig(blocks_down=(1, 2, 2), blocks_up=(1, 1, 1)), "blocks_up"),
        (SegResNetConfig(blocks_up=(1, 0, 1)), "blocks_up"),
        (SwinUNETRConfig(feature_size=20), "feature_size"),
        (SwinUNETRConfig(depths=(2, 2, 0, 2)), "depths"),
        (SwinUNETRConfig(num_heads=(3, 6, 12, 25)), "num_heads"),
        (MedNeXtConfig(kernel_size=4), "kernel_size"),
        (MedNeXtConfig(init_filters=0), "init_filters"),
    ],
)
def test_what_cannot_be_built_is_refused_by_key(config: NetworkConfig, key: str) -> None:
    with pytest.raises(UsageError, match=rf"^model\.network\.{key}: "):
        NETWORKS.build(config, 0)
