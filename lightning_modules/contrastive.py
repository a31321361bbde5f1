"""The contrastive term: regions of the cells, slots, projection, samples of all ranks, loss.

B image of this rank, V view, K slots, C channels, E embedding, R ranks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batch import PatchBatch
from datamodules.errors import UsageError
from lightning_modules.config import ContrastiveConfig
from lightning_modules.gather import gather, rank, ranks, sum_over_ranks
from lightning_modules.losses.contrastive import Samples, contrastive_sum
from lightning_modules.projection import ProjectionHead
from lightning_modules.regions.sampling import Slots, draw_slots, keyed_draws
from lightning_modules.regions.structure import (
    PARCEL_NAMES,
    REGION_NAMES,
    Bounds,
    cell_regions,
    voxel_regions,
)


class ContrastiveResult(NamedTuple):
    """What the term says of one batch."""

    loss: Tensor
    """Scalar, not yet weighted. The mean over the ranks is the loss of the global batch, as is DDP's mean over the
    ranks of its gradient: add it to the other terms as it is, and log it with a mean over the ranks."""
    fill: dict[str, Tensor]
    """By region: share of this rank's patches in which the region has at least one cell."""


class ContrastiveTerm(nn.Module):
    """Contrasts pancreas cells with their surroundings, guided by the pancreas' spatial structure.

    Calling it is a collective, and so is every backward pass through its loss (also one of
    :func:`torch.autograd.grad` that only measures a norm) under ``gather: grad``: all ranks must do both equally
    often, in the same order, with the same B. Under accumulation each micro-batch is contrasted by itself.

    Args:
        config: the term's settings.
        channels: C of the contrasted features.
        spacing: of the voxels along D, H, W, mm.
        seed: of the run.

    Raises:
        UsageError: a setting with which the term can't work.
    """

    def __init__(
        self, config: ContrastiveConfig, channels: int, spacing: tuple[float, float, float], seed: int
    ) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.seed = seed
        self.bounds = Bounds.at(spacing, config.stride)
        parcel, *rings = config.slots
        self.slots = (*[parcel] * len(PARCEL_NAMES), *rings)
        self.head = ProjectionHead(channels, config.dimension, seed)

    def forward(self, features: list[Tensor], batch: PatchBatch, uncertainty: Tensor) -> ContrastiveResult:
        """Draw, project and contrast.

        Args:
            features: one B×C×d×h×w per view, the clean one first; of further views, ``views: clean`` takes none.
            batch: the patches the features were computed from.
            uncertainty: B×1×D×H×W in [0, 1]; gets no gradient.
        """
        if self.config.views == "clean":
            features = features[:1]
        with torch.no_grad():
            voxels = voxel_regions(batch.distance[:, 0], batch.axis[:, 0], self.bounds)
            cells = cell_regions(voxels, self.config.stride).flatten(1)
            cell_uncertainty = _per_cell(uncertainty, self.config.stride)
            draws = keyed_draws(batch.key, self.seed, cells.shape[1], cells.device)
            slots = draw_slots(cells, cell_uncertainty, self.slots, draws)
            fill = {name: (cells == i).any(1).float().mean() for i, name in enumerate(REGION_NAMES)}
        embedding = torch.stack([self.head(_pick(view, slots.cell)) for view in features], 1)
        return ContrastiveResult(self._loss(embedding, slots, cell_uncertainty), fill)

    def _loss(self, embedding: Tensor, slots: Slots, cell_uncertainty: Tensor) -> Tensor:
        """Contrast embeddings B×V×K×E with those of all ranks."""
        B, V, K, _ = embedding.shape
        mode = self.config.gather
        first = 0 if mode == "none" else rank() * B * V
        picture = first + torch.arange(B * V, device=embedding.device).view(B, V, 1)
        # No buffer: DDP would broadcast it in every forward, and ranks validate different numbers of cases.
        region = torch.tensor([i for i, count in enumerate(self.slots) for _ in range(count)], device=embedding.device)
        group = torch.where(slots.valid[:, None], picture * len(REGION_NAMES) + region, -1)
        drawn = cell_uncertainty.gather(1, slots.cell)[:, None].expand(B, V, K)
        # Floats of 32 bits hold these group numbers exactly: one collective for both.
        facts = torch.stack([group.to(embedding.dtype), drawn.to(embedding.dtype)], -1).flatten(0, 1)
        embedding = embedding.flatten(0, 1)
        all_facts = gather(facts, "none" if mode == "none" else "detached")
        all_embedding = gather(embedding, mode)

        parcels = sum(self.slots[: len(PARCEL_NAMES)])  # their slots come first
        total, count = contrastive_sum(
            anchors=_samples(embedding[:, :parcels], facts[:, :parcels]),
            pancreas=_samples(all_embedding[:, :parcels], all_facts[:, :parcels]),
            background=_samples(all_embedding[:, parcels:], all_facts[:, parcels:]),
            temperature=self.config.temperature,
            first=first * parcels,
        )
        return ranks() * total / sum_over_ranks(count).clamp(min=1)


def _samples(embedding: Tensor, facts: Tensor) -> Samples:
    """From …×K×E embeddings and …×K×2 facts."""
    group, uncertainty = facts.flatten(0, 1).unbind(-1)
    return Samples(embedding.flatten(0, 1), group, uncertainty)


def _per_cell(uncertainty: Tensor, stride: int) -> Tensor:
    """B×N: mean of B×1×D×H×W over the voxels of each cell."""
    dtype = torch.promote_types(uncertainty.dtype, torch.float32)
    return F.avg_pool3d(uncertainty.to(dtype), stride).flatten(1)


def _pick(features: Tensor, index: Tensor) -> Tensor:
    """B×K×C: the cells at ``index`` B×K of a map B×C×d×h×w."""
    flat = features.flatten(2).transpose(1, 2)
    return flat.gather(1, index[:, :, None].expand(-1, -1, flat.shape[2]))


def _check(config: ContrastiveConfig) -> None:
    if config.temperature <= 0:
        raise UsageError(f"model.contrastive.temperature: {config.temperature} is not above 0; 0.1 is usual")
    parcel, *rings = config.slots
    if parcel < 1 or min(rings) < 0 or max(rings) < 1:
        raise UsageError(
            f"model.contrastive.slots: {list(config.slots)} leaves nothing to contrast; give at least one slot to "
            "the parcels (first number) and one to some ring (the other three)"
        )
