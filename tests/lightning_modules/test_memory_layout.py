"""Norms keep the layout of what they get, and learn the same in any layout and any batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.memory_layout import keep_layout

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]
SHAPE = (6, 3, 4, 5)


def by_hand(norm: nn.InstanceNorm3d | nn.GroupNorm, x: Tensor, groups: int) -> Tensor:
    parts = x.reshape(len(x), groups, -1)
    centred = parts - parts.mean(2, keepdim=True)
    normed = (centred / (centred.square().mean(2, keepdim=True) + norm.eps).sqrt()).view(x.shape)
    return normed * norm.weight[:, None, None, None] + norm.bias[:, None, None, None]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layout_of_gradient", LAYOUTS)
@pytest.mark.parametrize("groups", [SHAPE[0], 3])
def test_a_norm_has_its_gradient_whatever_the_batch_and_the_layouts(
    batch: int, layout: torch.memory_format, layout_of_gradient: torch.memory_format, groups: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, gradient, weights = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((batch, *SHAPE), (batch, *SHAPE), (2, SHAPE[0]))
    )
    norm = nn.InstanceNorm3d(SHAPE[0], affine=True) if groups == SHAPE[0] else nn.GroupNorm(groups, SHAPE[0])
    norm.double().load_state_dict({"weight": weights[0], "bias": weights[1]})
    keep_layout(norm)
    results = []
    for layer in (norm, lambda given: by_hand(norm, given, groups)):
        norm.zero_grad()
        given = x.clone().requires_grad_()
        y = layer(given.contiguous(memory_format=layout))
        if layer is norm:
            assert y.is_contiguous(memory_format=layout)
        y.backward(gradient.contiguous(memory_format=layout_of_gradient))
        results.append((y.detach(), given.grad, norm.weight.grad, norm.bias.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
