"""Intensities run through a monotone Bézier curve (Models Genesis, Zhou et al., 2021, without its inversion).

HU is calibrated: brighter tissue must stay brighter.
"""

from __future__ import annotations

from torch import Tensor

from lightning_modules.regions.operators import Cells


def remap(image: Tensor, cells: Cells) -> Tensor:
    """Map x to 3(1−x)²x·p₁ + 3(1−x)x²·p₂ + x³ with 0 ≤ p₁ ≤ p₂ ≤ 1 drawn per cell: 0 and 1 stay, order is kept."""
    first, second = cells.draws.per_cell("remap", 2).sort(0).values
    p1, p2 = cells.grid.spread(first), cells.grid.spread(second)
    x, rest = image, 1 - image
    return x * (3 * rest * (rest * p1 + x * p2) + x * x)
