"""SLAug's appearances (Su et al., AAAI 2023): intensities through a random curve, a factor and a shift.

Ours: curves have their ends at (0, 0) and (1, 1) and inner points in order, so that they rise (without ``inversion``);
the shift is held where mean ± spread of what is transformed stays in the window, where the paper holds percentiles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.augmentation.config import SLAugConfig
from datamodules.augmentation.draws import Draws


def slaug(image: Tensor, label: Tensor, config: SLAugConfig, draws: Draws) -> Tensor:
    """The global form in the first of two views, the local one in the second; of one view either, as likely.

    Args:
        image: float D×H×W in [0, 1].
        label: D×H×W, 0 or 1.
        config: its settings.
        draws: of this view of the sample.

    Returns:
        D×H×W, not clipped.
    """
    coin = draws.numbers("slaug form").random() < 0.5
    local = draws.view == 1 if config.views == 2 else coin
    if not local:
        return location_scale(image, torch.ones_like(label, dtype=torch.bool), config, draws, "whole", 0.0)
    inside = label > 0
    outside = location_scale(image, ~inside, config, draws, "background", config.inversion)
    return torch.where(inside, location_scale(image, inside, config, draws, "pancreas", config.inversion), outside)


def location_scale(
    image: Tensor, part: Tensor, config: SLAugConfig, draws: Draws, purpose: str, inversion: float
) -> Tensor:
    """``s·b(x) + t``, the shift t held by what ``part`` (bool D×H×W) of the patch becomes."""
    numbers = draws.numbers(f"slaug {purpose}")
    one, other = sorted(numbers.random(2).tolist())
    falls = numbers.random() < inversion
    scale = 1 + max(-config.scale, min(config.scale, float(numbers.normal(0, config.scale))))
    shift = float(numbers.normal(0, config.shift))
    y = bezier(1 - image if falls else image, one, other) * scale
    mean, spread = _statistics(y, part)
    lowest, highest = (spread - mean).clamp(max=0), (1 - mean - spread).clamp(min=0)
    return y + torch.clamp(torch.full_like(mean, shift), lowest, highest)


def bezier(x: Tensor, one: float, other: float) -> Tensor:
    """``3(1−x)²x·p₁ + 3(1−x)x²·p₂ + x³``; rises from 0 to 1 with 0 ≤ p₁ ≤ p₂ ≤ 1."""
    rest = 1 - x
    return x * (3 * rest * (rest * one + x * other) + x * x)


def _statistics(values: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over a part; of nothing, 0."""
    count = part.sum().clamp(min=1)
    mean = torch.where(part, values, 0).sum() / count
    return mean, (torch.where(part, values - mean, 0).square().sum() / count).sqrt()
