"""A cell takes the appearance of one of the near ring: the tissue that the pancreas is hardest to tell from."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.operators import Cells


def swap(image: Tensor, cells: Cells) -> Tensor:
    """Copy a random near-ring cell of the same patch into each chosen cell (any cell where there is none)."""
    grid, voxels = cells.grid, cells.voxels
    sample = voxels.sample
    source = []
    for axis, cell in enumerate(_donors(cells)):
        start = cell * grid.edges[sample, axis] - grid.offsets[sample, axis]
        # A donor at the border is cut: its outermost voxels are repeated.
        local = grid.local[axis][sample, voxels.place[axis]]
        source.append((start + local).clamp(0, grid.shape[axis] - 1))
    return image[sample, 0, source[0], source[1], source[2]]


def _donors(cells: Cells) -> tuple[Tensor, Tensor, Tensor]:
    """For each voxel N the cell from which its own gets its appearance, as three indices."""
    _, J, K = cells.grid.size
    near = cells.near.flatten(1)
    allowed = torch.where(near.any(1, keepdim=True), near, (cells.grid.voxels > 0).flatten(1))
    count = allowed.sum(1)
    sample = cells.voxels.sample
    chance = cells.voxels.of_cells(cells.draws.per_cell("swap", 1)[0])
    rank = torch.minimum((chance * count[sample]).long(), count[sample] - 1)
    # The allowed cells are numbered through the whole batch: one search finds those of all samples.
    number = allowed.flatten().cumsum(0)
    before = count.cumsum(0) - count
    chosen = torch.searchsorted(number, before[sample] + rank + 1) - sample * allowed.shape[1]
    return chosen // (J * K), chosen // K % J, chosen % K
