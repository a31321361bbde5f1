"""What the tests of the contrastive loss share: samples, its formulas in loops, NT-Xent on explicit tuples."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.config import ContrastiveConfig
from lightning_modules.losses.contrastive import Samples


def samples(
    group: list[int], seed: int, uncertainty: float | None = None, dtype: torch.dtype = torch.float64
) -> Samples:
    """Unit vectors of the given groups (negative: not valid) that take a gradient."""
    generator = torch.Generator().manual_seed(seed)
    embedding = F.normalize(torch.randn(len(group), 5, generator=generator, dtype=torch.float64), dim=1)
    drawn = torch.rand(len(group), generator=generator, dtype=torch.float64)
    if uncertainty is not None:
        drawn = torch.full_like(drawn, uncertainty)
    return Samples(embedding.to(dtype).requires_grad_(), torch.tensor(group), drawn.to(dtype))


Vector = list[float]


class Anchor(NamedTuple):
    """What the formulas see of one anchor."""

    place: Vector
    positives: list[Vector]
    negatives: list[tuple[float, Vector]]
    """Weight and place."""


def anchors(side: Samples, other: Samples) -> list[Anchor]:
    """The anchors of a side by the words of the definition."""
    place, group = side.embedding.tolist(), side.group.tolist()
    valid = [i for i, g in enumerate(group) if g >= 0]
    found = [(1 + u, z) for z, g, u in zip(*(t.tolist() for t in other), strict=True) if g >= 0]
    even = sum(weight for weight, _ in found) / max(len(found), 1)
    negatives = [(weight / even, z) for weight, z in found]
    rows = []
    for i in valid:
        chosen = [p for p in valid if group[p] != group[i]] or [p for p in valid if p != i]
        if chosen and negatives:
            rows.append(Anchor(place[i], [place[p] for p in chosen], negatives))
    return rows


def _dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _gap(a: Vector, b: Vector) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def info_nce(anchor: Anchor, tau: float) -> float:
    z, positives, negatives = anchor
    pushed = sum(weight * math.exp(_dot(z, n) / tau) for weight, n in negatives)
    return _mean([math.log(math.exp(_dot(z, p) / tau) + pushed) - _dot(z, p) / tau for p in positives])


def cohesion(anchor: Anchor, tau: float) -> float:
    """Alignment: half the squared distance, over τ."""
    return _mean([_gap(anchor.place, p) / (2 * tau) for p in anchor.positives])


def separation(anchor: Anchor, tau: float) -> float:
    """From each negative's antipode, as far as cohesion is from each positive."""
    z, _, negatives = anchor
    return math.log(_mean([weight * math.exp(_gap(z, [-x for x in n]) / (2 * tau)) for weight, n in negatives]))


def formula(form: str, inside: Samples, outside: Samples, config: ContrastiveConfig) -> tuple[float, int]:
    """Sum over the anchors, and their number, in plain Python."""
    tau, rows = config.temperature, anchors(inside, outside)
    if form == "symmetric":
        rows += anchors(outside, inside)
    if form == "cohesion_separation":
        each = [config.cohesion * cohesion(a, tau) + config.separation * separation(a, tau) for a in rows]
    else:
        each = [info_nce(a, tau) for a in rows]
    return sum(each), len(rows)


def nt_xent(embedding: Tensor, anchor: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al., 2020) on explicit tuples: pairs (anchor, positive), each with its row of negatives."""
    similarity = embedding @ embedding.T / temperature
    pair = similarity[anchor, positive][:, None]
    against = similarity[anchor[:, None], negatives]
    return F.cross_entropy(torch.cat([pair, against], 1), torch.zeros(len(anchor), dtype=torch.long))
