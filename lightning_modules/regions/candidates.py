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
        voxels = voxels[torch.randperm(len(voxels), generator=generator, device=flat.device)]
        # Sorted stably, not by kthvalue or quantile: the one has no deterministic form on CUDA, the other fails
        # above 2^24 elements.
        order = torch.sort(flat[sample, voxels], descending=True, stable=True).indices
        region[sample, voxels[order[: max(1, round(share * len(voxels)))]]] = True
    return region.view_as(scores)


def band_excess(region: Tensor, distance: Tensor) -> Tensor:
    """Share of M that the entropy chose beyond the band: per sample (0 without M), then averaged.

    Args:
        region: bool B×1×D×H×W, M.
        distance: B×1×D×H×W, signed distance to the surface in mm.
    """
    beyond = (region & ~in_band(distance)).flatten(1).sum(1)
    return (beyond / region.flatten(1).sum(1).clamp(min=1)).mean()
