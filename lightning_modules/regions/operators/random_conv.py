"""A local random convolution (RandConv, Xu et al., 2021): texture changes, flat tissue keeps its HU."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.operators import Cells

SIZE = 3
STRENGTH = 0.3
"""Standard deviation of the kernel's 27 random weights."""


def random_conv(image: Tensor, cells: Cells) -> Tensor:
    """Convolve with the identity plus random weights of sum zero, drawn per sample."""
    weights = STRENGTH * cells.draws.normal_per_sample("random_conv", SIZE**3)
    weights = weights - weights.mean(1, keepdim=True)
    weights[:, SIZE**3 // 2] += 1
    sample = cells.voxels.sample
    around = torch.arange(SIZE, device=image.device) - SIZE // 2
    # N×3 along each axis; beyond the border its voxels are repeated.
    d, h, w = (
        (place[:, None] + around).clamp(0, size - 1)
        for place, size in zip(cells.voxels.place, cells.grid.shape, strict=True)
    )
    neighbours = image[sample[:, None, None, None], 0, d[:, :, None, None], h[:, None, :, None], w[:, None, None, :]]
    return (neighbours.flatten(1) * weights[sample]).sum(1)
