"""A cell takes the appearance of one of the near ring: the tissue that the pancreas is hardest to tell from."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.operators import Cells


def swap(image: Tensor, cells: Cells) -> Tensor:
    """Copy a random near-ring cell of the same patch into each chosen cell (any cell where there is none)."""
    grid = cells.grid
    donor = _donors(cells)
    sample, _, *place = cells.where.nonzero(as_tuple=True)
    own = [grid.cell[axis][sample, place[axis]] for axis in range(3)]
    source = []
    for axis in range(3):
        cell = donor[axis][sample, own[0], own[1], own[2]]
        start = cell * grid.edges[sample, axis] - grid.offsets[sample, axis]
        # A donor at the border is cut: its outermost voxels are repeated.
        source.append((start + grid.local[axis][sample, place[axis]]).clamp(0, grid.shape[axis] - 1))
    swapped = image.clone()
    swapped[sample, 0, place[0], place[1], place[2]] = image[sample, 0, source[0], source[1], source[2]]
    return swapped


def _donors(cells: Cells) -> tuple[Tensor, Tensor, Tensor]:
    """For each cell B×I×J×K the cell it gets its appearance from, as three indices."""
    I, J, K = cells.grid.size  # noqa: E741 - the name of the dimension
    near = cells.near.flatten(1)
    allowed = torch.where(near.any(1, keepdim=True), near, (cells.grid.voxels > 0).flatten(1))
    first = torch.sort(allowed.to(torch.uint8), dim=1, descending=True, stable=True).indices
    count = allowed.sum(1)[:, None]
    chance = cells.draws.per_cell("swap", 1)[0].flatten(1)
    rank = (chance * count).long().clamp(max=count - 1)
    chosen = first.gather(1, rank).view(-1, I, J, K)
    return chosen // (J * K), chosen // K % J, chosen % K
