"""In bf16 on a CPU a backbone's gradients are those of full precision also where its maps are tiny."""

from __future__ import annotations

import pytest
import torch
from small_networks import SMALL
from torch import Tensor, nn

from lightning_modules.networks.config import NETWORKS
from lightning_modules.small_maps import CarefulConv3d, be_careful

LAST = torch.channels_last_3d


def gradients(layer: nn.Module, x: Tensor, half: bool) -> list[Tensor]:
    layer.zero_grad()
    x = x.clone().requires_grad_()
    # What a kernel forgets to write then holds this.
    junk = [torch.full((2**size,), 1e30) for size in range(2, 16)]
    del junk
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = layer(x)
    y.float().square().mean().backward()
    assert x.grad is not None
    found = [x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
    return [gradient.clone() for gradient in found]


@pytest.mark.parametrize("edge", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.Conv3d, {"padding": 1}),
        (nn.Conv3d, {"padding": 1, "stride": 2}),
        (nn.Conv3d, {"padding": 1, "groups": 8}),
        (nn.ConvTranspose3d, {"padding": 1, "stride": 2, "groups": 8}),
    ],
)
def test_a_careful_convolution_has_the_gradient_of_full_precision(
    kind: type[nn.Module], options: dict[str, int], edge: int
) -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(kind(8, 8, 3, **options)).to(memory_format=LAST)
    be_careful(layer)
    x = torch.rand(2, 8, edge, edge, edge).contiguous(memory_format=LAST)
    expected = gradients(layer, x, half=False)
    for _ in range(5):
        for found, wanted in zip(gradients(layer, x, half=True), expected, strict=True):
            assert (found - wanted).norm() <= 0.02 * wanted.norm()


def test_large_maps_stay_in_half_precision_and_weights_keep_their_names() -> None:
    plain = nn.Sequential(nn.Conv3d(2, 2, 3, padding=1))
    names = list(plain.state_dict())
    be_careful(plain)
    assert list(plain.state_dict()) == names
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(torch.rand(1, 2, 3, 3, 3)).dtype == torch.bfloat16
        assert plain(torch.rand(1, 2, 2, 2, 2)).dtype == torch.float32


def test_every_backbone_is_careful() -> None:
    network = nn.ModuleList(NETWORKS.build(config, 0) for config in SMALL.values())
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv3d)]
    assert convolutions
    assert all(isinstance(layer, CarefulConv3d) for layer in convolutions)
