"""Choices of M that look at no prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.regions.candidates import in_band
from lightning_modules.regions.choices.choice import Choice, Sight


class Band(Choice):
    """Voxels near the surface before all others."""

    def score(self, sight: Sight) -> Tensor:
        """1 in the band, 0 beyond."""
        return in_band(sight.batch.distance).float()


class Random(Choice):
    """Any voxels: with equal scores the sample's own random order alone decides."""

    def score(self, sight: Sight) -> Tensor:
        """0 everywhere."""
        return torch.zeros_like(sight.batch.distance)


class Whole(Random):
    """All candidates, their share being 1."""
