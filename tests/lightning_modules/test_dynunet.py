"""The backbone is MONAI's DynUNet, with its features at hand."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.networks.nets import DynUNet

from datamodules.errors import UsageError
from lightning_modules.keyed_initialisation import keyed_initialisation
from lightning_modules.networks.config import NETWORKS, DynUNetConfig
from lightning_modules.networks.dynunet import build_dynunet

FILTERS = (4, 8, 12, 16)


def monai_network(seed: int, *, residual: bool = False, deep: bool = False) -> DynUNet:
    with keyed_initialisation(seed, "backbone"):
        return DynUNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            kernel_size=[3] * 4,
            strides=[1, 2, 2, 2],
            upsample_kernel_size=[2] * 3,
            filters=FILTERS,
            norm_name=("INSTANCE", {"affine": True}),
            res_block=residual,
            deep_supervision=deep,
            deep_supr_num=2 if deep else 1,
        )


@pytest.mark.parametrize("residual", [False, True])
def test_logits_equal_monais_own_forward(residual: bool) -> None:
    ours = build_dynunet(DynUNetConfig(filters=FILTERS, residual=residual), seed=3)
    theirs = monai_network(3, residual=residual)
    x = torch.rand(2, 1, 16, 24, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x).logits, theirs(x))


def test_deep_logits_equal_monais_heads_and_are_gone_in_evaluation() -> None:
    ours = build_dynunet(DynUNetConfig(filters=FILTERS, deep_supervision=True), seed=3)
    theirs = monai_network(3, deep=True)
    x = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    stacked = theirs(x)
    features = ours(x)
    assert [tuple(d.shape[2:]) for d in features.deep] == [(8, 8, 8), (4, 4, 4)]
    for head, (deep, stride) in enumerate(zip(features.deep, (2, 4), strict=True), start=1):
        assert torch.equal(deep, stacked[:, head, :, ::stride, ::stride, ::stride])
    assert ours.eval()(x).deep == []


def test_features_have_the_shapes_that_the_channels_and_strides_say() -> None:
    network = build_dynunet(DynUNetConfig(filters=FILTERS), seed=0)
    features = network(torch.zeros(1, 1, 16, 24, 32))
    for maps, channels in (
        (features.encoder, network.encoder_channels),
        (features.decoder, network.decoder_channels),
    ):
        assert list(channels) == sorted(maps)
        for stride, width in channels.items():
            assert maps[stride].shape == (1, width, 16 // stride, 24 // stride, 32 // stride)
    assert sorted(network.encoder_channels) == [1, 2, 4, 8]
    assert sorted(network.decoder_channels) == [1, 2, 4]
    assert network.largest_stride == 8


def test_weights_depend_on_the_seed_alone_and_leave_the_global_stream_alone() -> None:
    torch.manual_seed(1)
    first = build_dynunet(DynUNetConfig(filters=FILTERS), seed=5).state_dict()
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    torch.manual_seed(2)
    again = build_dynunet(DynUNetConfig(filters=FILTERS), seed=5).state_dict()
    other = build_dynunet(DynUNetConfig(filters=FILTERS), seed=6).state_dict()
    name = "encoder.stages.0.conv1.conv.weight"
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first[name], other[name])


def test_a_network_that_has_run_can_be_copied() -> None:
    # MONAI's own keeps its deep heads' outputs as attributes, and a tensor with a graph can't be copied.
    network = build_dynunet(DynUNetConfig(filters=FILTERS, deep_supervision=True), seed=0)
    network(torch.zeros(1, 1, 16, 16, 16))
    copied = copy.deepcopy(network)
    assert torch.equal(
        network.eval()(torch.ones(1, 1, 16, 16, 16)).logits, copied.eval()(torch.ones(1, 1, 16, 16, 16)).logits
    )


def test_compiling_keeps_names_values_and_a_graph_that_can_be_measured_first() -> None:
    x = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = build_dynunet(DynUNetConfig(filters=(2, 4, 6)), seed=0)
    compiled = build_dynunet(DynUNetConfig(filters=(2, 4, 6)), seed=0)
    compiled.compile(backend="aot_eager")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    loss = compiled.decode(compiled.encode(x)).logits.square().mean()
    torch.autograd.grad(loss, compiled.encoder_parameters(), retain_graph=True)
    loss.backward()
    torch.testing.assert_close(loss, plain(x).logits.square().mean())
    assert copy.deepcopy(compiled).state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("filters", [(4, 8), (4, 0, 8)])
def test_too_few_levels_or_widths_are_refused_by_key(filters: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"model\.network\.filters"):
        NETWORKS.build(DynUNetConfig(filters=filters), 0)


def test_channels_last_maps_stay_channels_last_and_give_the_same_logits_and_gradients() -> None:
    network = build_dynunet(DynUNetConfig(filters=FILTERS), seed=0)
    x = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = network(x).logits
    gradients = torch.autograd.grad(expected.square().mean(), list(network.parameters()))
    last = torch.channels_last_3d
    network.to(memory_format=last)
    features = network(x.contiguous(memory_format=last))
    maps = [*features.encoder.values(), *features.decoder.values()]
    assert all(m.is_contiguous(memory_format=last) for m in maps)
    torch.testing.assert_close(features.logits, expected, rtol=1e-4, atol=1e-4)
    found = torch.autograd.grad(features.logits.square().mean(), list(network.parameters()))
    for a, b in zip(found, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
