"""Intensities run through a monotone Bézier curve (Models Genesis, Zhou et al., 2021, without its inversion).

HU is calibrated: brighter tissue must stay brighter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.operators import Cells


def remap(image: Tensor, cells: Cells) -> Tensor:
    """Map x to 3(1−x)²x·p₁ + 3(1−x)x²·p₂ + x³ with 0 ≤ p₁ ≤ p₂ ≤ 1 drawn per cell: 0 and 1 stay, order is kept."""
    one, other = (cells.voxels.of_cells(chance) for chance in cells.draws.per_cell("remap", 2))
    p1, p2 = torch.minimum(one, other), torch.maximum(one, other)
    x = cells.voxels.of(image)
    rest = 1 - x
    return x * (3 * rest * (rest * p1 + x * p2) + x * x)
