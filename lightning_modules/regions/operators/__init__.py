"""What can be done to the appearance of a cell: one file an operator, each a pure function of a patch.

An operator gets the whole patches and says how the voxels of the cells that it was drawn for (:attr:`Cells.voxels`)
would look; it has no way to touch others. B sample, D H W voxels, I J K cells, N voxels that it was drawn for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from lightning_modules.regions.cells import CellGrid, Voxels
from lightning_modules.regions.draws import Draws


class Cells(NamedTuple):
    """Where an operator acts, and with which random numbers."""

    grid: CellGrid
    draws: Draws
    voxels: Voxels
    """The N voxels of the cells that this operator was drawn for; whole cells."""
    near: Tensor
    """bool B×I×J×K: cells of the near ring."""
    spacing: tuple[float, float, float]
    """mm along D, H, W."""
    alike: float = 0.0
    """Probability that an operator which draws a look for each cell draws one for all cells of a sample."""


Operator = Callable[[Tensor, Cells], Tensor]
"""Float32 patches B×1×D×H×W in [0, 1] and cells → the N voxels' new values, not yet clipped to [0, 1]."""
