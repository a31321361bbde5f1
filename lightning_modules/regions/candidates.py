"""The high-uncertainty region M: a fixed share of the voxels around the pancreas.

B sample, D H W voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.randomness import torch_generator

BAND = (-2.0, 3.0)
"""Signed distances to the surface, mm: where annotators disagree."""


def score(uncertainty: Tensor, distance: Tensor, band_weight: float) -> Tensor:
    """S = U + β·[−2 ≤ d ≤ 3].

    Args:
        uncertainty: B×1×D×H×W in [0, 1].
        distance: B×1×D×H×W, signed distance to the surface in mm.
        band_weight: β.
    """
    return uncertainty + band_weight * in_band(distance)


def in_band(distance: Tensor) -> Tensor:
    """bool, where the surface is near."""
    return (distance >= BAND[0]) & (distance <= BAND[1])


def choose_region(scores: Tensor, distance: Tensor, reach: float, share: float, key: Tensor, seed: int) -> Tensor:
    """M: of each sample's candidates (d ≤ reach) the given share with the highest scores.

    A fixed share can't vanish as the network grows confident. Equal scores are decided by the sample's own random
    order, and so alike in any batch, on any rank. Without candidates a sample has no M, else at least one voxel.

    Args:
        scores: B×1×D×H×W.
        distance: B×1×D×H×W, signed distance to the surface in mm.
        reach: in mm.
        share: of the candidates, in (0, 1].
        key: int64 B×2, (epoch, index) of each sample.
        seed: of the run.

    Returns:
        bool B×1×D×H×W.
    """
    flat = scores.flatten(1)
    candidates = (distance <= reach).flatten(1)
    region = torch.zeros_like(candidates)
    for sample, (epoch, index) in enumerate(key.tolist()):
        voxels = candidates[sample].nonzero().squeeze(1)
        if len(voxels) == 0:
            continue
        generator = torch_generator(seed, epoch, index, "region", device=flat.device)
        count = max(1, round(share * len(voxels)))
        region[sample, voxels] = _highest(flat[sample, voxels], count, generator)
    return region.view_as(scores)


def _highest(scores: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """bool N: the ``count`` highest of N scores, equal ones in random order.

    The same as the first of a shuffled list that is then stably sorted, for less: the lowest score that is taken
    comes from a selection, and only where it is shared an order is drawn. (Not by kthvalue or quantile: the one has
    no deterministic form on CUDA, the other fails above 2^24 elements.)
    """
    lowest = scores.topk(count, sorted=False).values.amin()
    taken = scores > lowest
    equal = scores == lowest
    places = count - int(taken.sum())
    if places == int(equal.sum()):
        return taken | equal
    order = torch.randperm(len(scores), generator=generator, device=scores.device)
    taken[order[equal[order]][:places]] = True
    return taken


def region_shares(region: Tensor, distance: Tensor) -> dict[str, Tensor]:
    """Which share of M lies inside the pancreas, outside it, and beyond the band (there entropy put it).

    Args:
        region: bool B×1×D×H×W, M.
        distance: B×1×D×H×W, signed distance to the pancreas' surface in mm.

    Returns:
        Scalars ``inside``, ``outside``, ``band_excess``: per sample (0 without M), then averaged.
    """
    size = region.flatten(1).sum(1).clamp(min=1)

    def share(where: Tensor) -> Tensor:
        return ((region & where).flatten(1).sum(1) / size).mean()

    inside = distance < 0
    return {"inside": share(inside), "outside": share(~inside), "band_excess": share(~in_band(distance))}
