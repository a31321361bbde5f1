"""Gaussian noise, as of a lower dose."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.regions.operators import Cells

STRENGTHS = (0.02, 0.15)
"""Standard deviations, in units of the window."""


def noise(image: Tensor, cells: Cells) -> Tensor:
    """Add noise with a standard deviation drawn per cell."""
    low, high = STRENGTHS
    strength = low + (high - low) * cells.draws.per_cell("noise", 1)[0]
    voxels = cells.voxels
    return voxels.of(image) + voxels.of_cells(strength) * cells.draws.normal_per_voxel("noise", voxels)
