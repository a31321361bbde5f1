"""A cell loses its content: its local mean is painted over it, or noise of its own mean and spread."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.operators import Cells


def inpaint(image: Tensor, cells: Cells) -> Tensor:
    """Paint each cell with its mean, or, as often, with noise about its mean."""
    grid, voxels = cells.grid, cells.voxels
    values = voxels.of(image)
    powers = torch.stack([values, values.square()])
    # Sums over the cells that it acts on alone, which are few.
    sums = powers.new_zeros(2, grid.voxels.numel()).index_add_(1, voxels.cell, powers)
    mean, square = (sums / grid.voxels.flatten().clamp(min=1)).unbind()
    noisy = cells.draws.per_cell("inpaint", 1)[0].flatten() < 0.5
    spread = (square - mean.square()).clamp(min=0).sqrt() * noisy
    return mean[voxels.cell] + spread[voxels.cell] * cells.draws.normal_per_voxel("inpaint", voxels)
