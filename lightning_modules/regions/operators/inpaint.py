"""A cell loses its content: its local mean is painted over it, or noise of its own mean and spread."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.regions.operators import Cells


def inpaint(image: Tensor, cells: Cells) -> Tensor:
    """Paint each cell with its mean, or, as often, with noise about its mean."""
    grid, voxels = cells.grid, cells.voxels
    mean = grid.mean(image)
    spread = (grid.mean(image.square()) - mean.square()).clamp(min=0).sqrt()
    noisy = cells.draws.per_cell("inpaint", 1)[0] < 0.5
    return voxels.of_cells(mean) + voxels.of_cells(spread * noisy) * voxels.of(cells.draws.normal_field("inpaint"))
