"""What DynUNet alone has: residual blocks, deep supervision, levels of any number. The rest is in test_backbones."""

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


def test_a_network_that_has_run_can_be_copied() -> None:
    # MONAI's own keeps its deep heads' outputs as attributes, and a tensor with a graph can't be copied.
    network = build_dynunet(DynUNetConfig(filters=FILTERS, deep_supervision=True), seed=0)
    network(torch.zeros(1, 1, 16, 16, 16))
    copied = copy.deepcopy(network)
    assert torch.equal(
        network.eval()(torch.ones(1, 1, 16, 16, 16)).logits, copied.eval()(torch.ones(1, 1, 16, 16, 16)).logits
    )


@pytest.mark.parametrize("filters", [(4, 8), (4, 0, 8), ()])
def test_too_few_levels_or_widths_are_refused_by_key(filters: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"model\.network\.filters"):
        NETWORKS.build(DynUNetConfig(filters=filters), 0)
