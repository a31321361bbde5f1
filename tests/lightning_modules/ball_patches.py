"""Patches with a ball for a pancreas, features for them, and a contrastive term to judge them."""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.batch import OUTSIDE_AXIS, PatchBatch
from lightning_modules.config import ContrastiveConfig
from lightning_modules.contrastive import ContrastiveTerm

SIZE, CHANNELS, SPACING = 24, 6, (2.0, 2.0, 2.0)


def ball(radius: float, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Distance and axis, 1×D×H×W, of a ball in the middle whose axis runs along D."""
    place = torch.arange(size) - (size - 1) / 2
    d, h, w = torch.meshgrid(place, place, place, indexing="ij")
    distance = ((d**2 + h**2 + w**2).sqrt() - radius) * SPACING[0]
    axis = torch.where(distance < 0, (d / radius + 1) / 2, OUTSIDE_AXIS)
    return distance[None].clamp(-100, 100), axis[None]


def batch_of(radii: list[float], epoch: int = 0, first: int = 0) -> PatchBatch:
    """A patch for each radius; 0 for one without pancreas."""
    distance, axis = (torch.stack(maps) for maps in zip(*(ball(r) for r in radii), strict=True))
    key = torch.tensor([[epoch, first + i] for i in range(len(radii))])
    label = (distance < 0).float()
    return PatchBatch(torch.rand_like(label), label, distance, axis, key, [str(r) for r in radii])


def inputs(batch: PatchBatch, views: int = 2, stride: int = 2, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Features of the views, in float64, and an uncertainty."""
    generator = torch.Generator().manual_seed(seed)
    B = len(batch.case)
    shape = (B, CHANNELS, *(n // stride for n in batch.label.shape[2:]))
    features = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(views)]
    return features, torch.rand(batch.label.shape, generator=generator, dtype=torch.float64)


def odd_batch(mask: str) -> PatchBatch:
    """Two patches, the first with a pancreas that is ``empty``, ``full``, ``one voxel``, ``half a cell`` or a ``ball``.

    But for the ball, no background lies near the organ.
    """
    batch = batch_of([6.0, 6.0])
    if mask != "ball":
        batch.distance.fill_(-20.0 if mask == "full" else 50.0)
    if mask == "one voxel":
        batch.distance[0, 0, 3, 3, 3] = -1.0
    if mask == "half a cell":
        batch.distance[0, 0, :1, :2, :2] = -1.0
    return batch


def term_of(**options: object) -> ContrastiveTerm:
    """A term in float64."""
    config = ContrastiveConfig(**options)  # type: ignore[arg-type]
    return ContrastiveTerm(config, CHANNELS, SPACING, seed=0).double()
