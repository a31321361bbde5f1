"""Gaussian blur, as wide as a soft reconstruction kernel makes it and wider."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.operators import Cells

WIDTHS = (0.7, 2.0)
"""Standard deviations, in units of the finest voxel edge; equally wide in mm along every axis."""


def blur(image: Tensor, cells: Cells) -> Tensor:
    """Blur with a standard deviation drawn per sample; at the border the kernel is cut and normalised."""
    low, high = WIDTHS
    chance = cells.draws.per_sample("blur", 1)
    sigma = (low + (high - low) * chance) * min(cells.spacing)
    d, h, w = (_kernel(n, sigma / step) for n, step in zip(cells.grid.shape, cells.spacing, strict=True))
    sample, (i, j, k) = cells.voxels.sample, cells.voxels.place
    x = image[:, 0]
    x = (d @ x.flatten(2)).view_as(x)
    x = h[:, None] @ x
    # Along the last axis for the chosen voxels alone.
    rows = x[sample, i, j]
    return (rows * w[sample, k]).sum(1)


def _kernel(length: int, sigma: Tensor) -> Tensor:
    """B×length×length: row x holds the weights of the voxels that make up voxel x; ``sigma`` is B×1, in voxels."""
    place = torch.arange(length, device=sigma.device, dtype=sigma.dtype)
    squared = (place[:, None] - place).square()
    return (-squared / (2 * sigma[..., None].square())).softmax(-1)
