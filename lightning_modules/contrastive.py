"""The contrastive term: regions of the cells, slots, projection, samples of all ranks, loss.

B image of this rank, V view, K slots, C channels, E embedding, R ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batch import PatchBatch
from datamodules.errors import UsageError
from lightning_modules.config import ContrastiveConfig
from lightning_modules.embedding_watch import watch
from lightning_modules.gather import gather, rank, ranks, sum_over_ranks
from lightning_modules.losses.contrastive import Samples
from lightning_modules.losses.contrastive_forms import FORMS, Side
from lightning_modules.projection import ProjectionHead
from lightning_modules.regions.bounds import Bounds
from lightning_modules.regions.sampling import Slots, draw_slots, keyed_draws
from lightning_modules.regions.structure import PARCEL_NAMES, Partition, cell_regions, voxel_regions


class ContrastiveResult(NamedTuple):
    """What the term says of one batch."""

    loss: Tensor
    """Scalar, not yet weighted. The mean over the ranks is the loss of the global batch, as is DDP's mean over the
    ranks of its gradient: add it to the other terms as it is, and log it with a mean over the ranks."""
    fill: dict[str, Tensor]
    """By region: share of this rank's patches in which the region has at least one cell."""
    parts: dict[str, Tensor]
    """What the form records of its parts, before their weights; their mean over the ranks is the global batch's."""
    watch: Callable[[], dict[str, Tensor]]
    """What is only worth its cost when it is recorded, see :mod:`lightning_modules.embedding_watch`; a collective."""


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
        self.partition = Partition.of(config.structure, config.rings)
        parcel, *rings = config.slots
        self.slots = self.partition.merged([parcel] * len(PARCEL_NAMES) + rings)
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
            cells = cell_regions(voxels, self.config.stride, self.partition).flatten(1)
            cell_uncertainty = _per_cell(uncertainty, self.config.stride)
            draws = keyed_draws(batch.key, self.seed, cells.shape[1], cells.device)
            slots = draw_slots(cells, cell_uncertainty, self.slots, draws, self.config.sampling)
            fill = {name: (cells == i).any(1).float().mean() for i, name in enumerate(self.partition.names)}
        embedding = torch.stack([self.head(_pick(view, slots.cell)) for view in features], 1)
        # No buffer: DDP would broadcast it in every forward, and ranks validate different numbers of cases.
        region = torch.tensor([i for i, count in enumerate(self.slots) for _ in range(count)], device=embedding.device)
        loss, parts = self._loss(embedding, slots, region, cell_uncertainty)
        valid = slots.valid.repeat_interleave(len(features), 0)
        later = partial(watch, embedding.detach().flatten(0, 1), valid, region, self.partition)
        return ContrastiveResult(loss, fill, parts, later)

    def _loss(
        self, embedding: Tensor, slots: Slots, region: Tensor, cell_uncertainty: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast embeddings B×V×K×E with those of all ranks."""
        B, V, K, _ = embedding.shape
        mode = self.config.gather
        first = 0 if mode == "none" else rank() * B * V
        picture = first + torch.arange(B * V, device=embedding.device).view(B, V, 1)
        group = torch.where(slots.valid[:, None], picture * len(self.partition.names) + region, -1)
        drawn = cell_uncertainty.gather(1, slots.cell)[:, None].expand(B, V, K)
        # Floats of 32 bits hold these group numbers exactly: one collective for both.
        facts = torch.stack([group.to(embedding.dtype), drawn.to(embedding.dtype)], -1).flatten(0, 1)
        embedding = embedding.flatten(0, 1)
        all_facts = gather(facts, "none" if mode == "none" else "detached")
        all_embedding = gather(embedding, mode)

        def side(begin: int, end: int) -> Side:
            own = _samples(embedding[:, begin:end], facts[:, begin:end])
            everyone = _samples(all_embedding[:, begin:end], all_facts[:, begin:end])
            return Side(own, everyone, first * (end - begin))

        parcels = sum(self.slots[: len(self.partition.parcels)])  # their slots come first
        total, count, parts = FORMS[self.config.form](side(0, parcels), side(parcels, K), self.config)
        anchors = sum_over_ranks(count).clamp(min=1)
        return ranks() * total / anchors, {name: ranks() * part.detach() / anchors for name, part in parts.items()}


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
    for name, hint in get_type_hints(ContrastiveConfig).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise UsageError(f"model.contrastive.{name}: {value!r} is none of {', '.join(get_args(hint))}")
    if config.temperature <= 0:
        raise UsageError(f"model.contrastive.temperature: {config.temperature} is not above 0; 0.1 is usual")
    parcel, *rings = config.slots
    if parcel < 1 or min(rings) < 0 or max(rings) < 1:
        raise UsageError(
            f"model.contrastive.slots: {list(config.slots)} leaves nothing to contrast; give at least one slot to "
            "the parcels (first number) and one to some ring (the other three)"
        )
    if config.form == "cohesion_separation" and not config.cohesion > 0 and not config.separation > 0:
        raise UsageError(
            "model.contrastive.cohesion: it and model.contrastive.separation are both 0, which leaves nothing to "
            "learn from; give one of them a weight, or switch the term off by model.contrastive.weight=0"
        )
