"""Voxels of small blocks change places (Models Genesis, Zhou et al., 2021): texture goes, the histogram stays."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.operators import Cells

BLOCK = 3
"""Voxels along a block's edge, about: each cell is cut into equal blocks, and a block never leaves its cell."""


def shuffle(image: Tensor, cells: Cells) -> Tensor:
    """Permute the voxels within each block of the chosen cells."""
    flat = image.flatten()
    voxels = cells.where.flatten().nonzero().squeeze(1)
    block = _blocks(cells).expand_as(image).flatten()[voxels].double()
    chance = cells.draws.field("shuffle").flatten()[voxels]
    # Both orders list the voxels block by block; the second in random order within a block.
    places = voxels[torch.sort(block, stable=True).indices]
    sources = voxels[torch.sort(block + chance.double(), stable=True).indices]
    shuffled = flat.clone()
    shuffled[places] = flat[sources]
    return shuffled.view_as(image)


def _blocks(cells: Cells) -> Tensor:
    """int64 B×1×D×H×W: a number for each block, unique in the batch."""
    grid = cells.grid
    number = torch.arange(len(grid.edges), device=grid.edges.device)[:, None, None, None, None]
    for axis in range(3):
        edge = grid.edges[:, [axis]]
        per_cell = (edge / BLOCK).round().long().clamp(min=1)
        block = grid.cell[axis] * per_cell + grid.local[axis] * per_cell // edge
        view = [len(block), 1, 1, 1, 1]
        view[2 + axis] = -1
        number = number * (grid.shape[axis] + BLOCK + 1) + block.view(view)
    return number
