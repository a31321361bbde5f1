"""Voxels of small blocks change places (Models Genesis, Zhou et al., 2021): texture goes, the histogram stays."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.operators import Cells

BLOCK = 3
"""Voxels along a block's edge, about: each cell is cut into equal blocks, and a block never leaves its cell."""


def shuffle(image: Tensor, cells: Cells) -> Tensor:
    """Permute the voxels within each block of the chosen cells."""
    values = cells.voxels.of(image)
    block = _blocks(cells).double()
    chance = cells.draws.per_voxel("shuffle", cells.voxels)
    # Both orders list the voxels block by block; the second in random order within a block.
    places = torch.sort(block, stable=True).indices
    sources = torch.sort(block + chance.double(), stable=True).indices
    return torch.empty_like(values).index_copy_(0, places, values[sources])


def _blocks(cells: Cells) -> Tensor:
    """int64 N: the number of each voxel's block, unique in the batch."""
    grid, voxels = cells.grid, cells.voxels
    number = voxels.cell
    for axis in range(3):
        edge = grid.edges[:, axis]
        per_cell = (edge / BLOCK).round().long().clamp(min=1)
        local = grid.local[axis][voxels.sample, voxels.place[axis]]
        in_cell = local * per_cell[voxels.sample] // edge[voxels.sample]
        number = number * grid.shape[axis] + in_cell
    return number
