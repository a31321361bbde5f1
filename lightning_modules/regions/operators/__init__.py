"""What can be done to the appearance of a cell: one file an operator, each a pure function of a patch.

An operator gets the whole patches and says how they would look if it were applied everywhere it is asked for
(:attr:`Cells.where`); whoever calls it takes those voxels and no others. B sample, D H W voxels, I J K cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from lightning_modules.regions.cells import CellGrid
from lightning_modules.regions.draws import Draws


class Cells(NamedTuple):
    """Where an operator acts, and with which random numbers."""

    grid: CellGrid
    draws: Draws
    where: Tensor
    """bool B×1×D×H×W: the voxels of the cells that this operator was drawn for."""
    near: Tensor
    """bool B×I×J×K: cells of the near ring."""
    spacing: tuple[float, float, float]
    """mm along D, H, W."""


Operator = Callable[[Tensor, Cells], Tensor]
"""Float32 patches B×1×D×H×W in [0, 1] and cells → patches of the same shape."""
