"""A fixed number of slots per region and image, filled with cells of that region.

B sample, N cells of an image, K slots. The shapes never depend on the content: a slot for which its region has no
cell left is marked as not valid, never filled with a cell twice or with a cell of another region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from datamodules.randomness import torch_generator

CERTAIN = 1e-3
"""Added to the uncertainty in the weighted draw: among cells of which the model is certain it is uniform."""


Sampling = Literal["mixed", "uniform", "uncertain"]
WEIGHTED: dict[Sampling, float] = {"mixed": 0.5, "uniform": 0.0, "uncertain": 1.0}
"""Share of a region's slots that is drawn by uncertainty; the others are drawn uniformly."""


class Slots(NamedTuple):
    """The cells drawn for B images."""

    cell: Tensor
    """int64 B×K: position of the cell among the N of its image (0 where not valid)."""
    valid: Tensor
    """bool B×K."""


class Draws(NamedTuple):
    """The random numbers of B images, one of each kind per cell, float64 so that ties don't happen."""

    uniform: Tensor
    """B×N in [0, 1)."""
    exponential: Tensor
    """B×N, exponentially distributed with rate 1."""


def keyed_draws(key: Tensor, seed: int, cells: int, device: torch.device) -> Draws:
    """Random numbers of each sample from its own key; the same on every device, in every batch, on every rank.

    Args:
        key: int64 B×2, (epoch, index) of each sample.
        seed: of the run.
        cells: N.
        device: where the numbers are needed.
    """
    generators = [torch_generator(seed, epoch, index, "contrastive slots") for epoch, index in key.tolist()]
    uniform = [torch.rand(cells, generator=g, dtype=torch.float64) for g in generators]
    exponential = [torch.empty(cells, dtype=torch.float64).exponential_(generator=g) for g in generators]
    return Draws(torch.stack(uniform).to(device), torch.stack(exponential).to(device))


def draw_slots(
    regions: Tensor, uncertainty: Tensor, slots: Sequence[int], draws: Draws, sampling: Sampling = "mixed"
) -> Slots:
    """Draw cells without replacement: of a region's slots some uniformly, the rest weighted by uncertainty.

    The weighted draw is an exponential race, E/w smallest first (Efraimidis & Spirakis, 2006).

    Args:
        regions: int B×N, region of every cell.
        uncertainty: float B×N in [0, 1].
        slots: number of slots of each region; K is their sum, and slots stand in the order of the regions.
        draws: the random numbers.
        sampling: how many of a region's slots are drawn by uncertainty: half (``mixed``), none or all.
    """
    race = draws.exponential / (uncertainty.to(draws.exponential.dtype) + CERTAIN)
    parts = [
        part
        for region, count in enumerate(slots)
        for part in _draw(regions == region, draws.uniform, race, count, int(count * WEIGHTED[sampling]))
    ]
    return Slots(torch.cat([p.cell for p in parts], 1), torch.cat([p.valid for p in parts], 1))


def _draw(member: Tensor, uniform: Tensor, race: Tensor, count: int, weighted: int) -> tuple[Slots, Slots]:
    first = _smallest(torch.where(member, uniform, torch.inf), count - weighted)
    # A slot that is not valid points at a cell outside the region or at 0 twice; it must not take away cell 0.
    taken = torch.zeros_like(member, dtype=torch.int8).scatter_add_(1, first.cell, first.valid.to(torch.int8))
    second = _smallest(torch.where(member & (taken == 0), race, torch.inf), weighted)
    return first, second


def _smallest(keys: Tensor, count: int) -> Slots:
    """The cells with the ``count`` smallest keys; not valid where the key is infinite or cells have run out."""
    values, index = keys.topk(min(count, keys.shape[1]), dim=1, largest=False)
    valid = values.isfinite()
    missing = count - index.shape[1]
    index = torch.nn.functional.pad(index.masked_fill(~valid, 0), (0, missing))
    return Slots(index, torch.nn.functional.pad(valid, (0, missing)))
