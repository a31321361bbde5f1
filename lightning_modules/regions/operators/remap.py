"""Intensities run through a monotone Bézier curve (Models Genesis, Zhou et al., 2021, without its inversion).

HU is calibrated: brighter tissue must stay brighter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.operators import Cells


def remap(image: Tensor, cells: Cells) -> Tensor:
    """Map x to 3(1−x)²x·p₁ + 3(1−x)x²·p₂ + x³ with 0 ≤ p₁ ≤ p₂ ≤ 1: 0 and 1 stay, order is kept.

    The curve is drawn per cell, or per sample with the probability that its cells are alike.
    """
    one, other = (cells.voxels.of_cells(chance) for chance in cells.draws.per_cell("remap", 2))
    if cells.alike > 0:
        common = cells.draws.per_sample("remap whole", 3)[cells.voxels.sample]
        alike = common[:, 2] < cells.alike
        one, other = torch.where(alike, common[:, 0], one), torch.where(alike, common[:, 1], other)
    p1, p2 = torch.minimum(one, other), torch.maximum(one, other)
    x = cells.voxels.of(image)
    rest = 1 - x
    return x * (3 * rest * (rest * p1 + x * p2) + x * x)
