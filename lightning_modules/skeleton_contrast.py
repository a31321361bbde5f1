"""Label-guided contrast on the pancreas' skeleton, in coarse features of the encoder.

A *reconstruction* of a relative of this project's method that is known to us from a public description alone (NT-Xent,
guided by the label, on voxels of the pancreas' skeleton at the 8-fold coarser level). All else is our choice: the
skeleton is the morphological one of the patch's label (Lantuéjoul), which does not shrink from the faces of a patch; a
cell through which it goes is a sample of the pancreas, one without any pancreas a sample of the background; every
pancreas sample is every other one's positive, the background's are the negatives.

B image of this rank, N cells, K slots.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.gather import gather, rank, ranks, sum_over_ranks
from lightning_modules.losses.contrastive import Samples, contrastive_sum
from lightning_modules.projection import ProjectionHead
from lightning_modules.regions.sampling import draw_slots, keyed_draws
from lightning_modules.rivals_config import SkeletonConfig

DEPTH = 25.0
"""Mm: no voxel of a pancreas lies deeper, so that so many layers are peeled off."""
SKELETON, BACKGROUND, NEITHER = 0, 1, -1


class SkeletonContrast(nn.Module):
    """Pulls the skeleton's cells together and pushes them from the background. A collective, as the other contrast is.

    Args:
        config: the term's settings.
        channels: of the encoder's features at its stride.
        spacing: of the voxels along D, H, W, mm.
        seed: of the run.
    """

    def __init__(self, config: SkeletonConfig, channels: int, spacing: tuple[float, float, float], seed: int) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        self.layers = math.ceil(DEPTH / min(spacing))
        self.head = ProjectionHead(channels, config.dimension, seed)

    def forward(self, features: Tensor, label: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the share of this rank's patches that have a cell of the skeleton.

        Args:
            features: B×C×d×h×w of the encoder at the stride.
            label: B×1×D×H×W, 0 or 1.
            key: int64 B×2, (epoch, index) of each sample.
        """
        with torch.no_grad():
            cells = skeleton_cells(label, self.config.stride, self.layers).flatten(1)
            draws = keyed_draws(key, self.seed, cells.shape[1], cells.device)
            slots = draw_slots(cells, torch.zeros_like(draws.uniform), self.config.slots, draws, "uniform")
        flat = features.flatten(2).transpose(1, 2)
        embedding = self.head(flat.gather(1, slots.cell[:, :, None].expand(-1, -1, flat.shape[2])))
        mode = self.config.gather
        valid = slots.valid.to(embedding.dtype)
        everyone = gather(embedding, mode)
        all_valid = gather(valid, "none" if mode == "none" else "detached")
        skeleton = self.config.slots[0]
        own, same = _samples(embedding[:, :skeleton], valid), _samples(everyone[:, :skeleton], all_valid)
        other = _samples(everyone[:, skeleton:], all_valid[:, skeleton:])
        first = 0 if mode == "none" else rank() * own.group.numel()
        own = own._replace(group=same.group[first : first + own.group.numel()])
        total, count = contrastive_sum(own, same, other, self.config.temperature, first)
        loss = ranks() * total / sum_over_ranks(count).clamp(min=1)
        return loss, (cells == SKELETON).any(1).float().mean()


def skeleton_cells(label: Tensor, stride: int, layers: int) -> Tensor:
    """int64 B×d×h×w: cells of the skeleton, of the background, and what is neither.

    Args:
        label: B×1×D×H×W, 0 or 1.
        stride: voxels along an edge of a cell.
        layers: as many as the organ is deep, in voxels.
    """
    through = F.max_pool3d(skeleton(label > 0, layers).float(), stride)[:, 0] > 0
    empty = F.max_pool3d(label.float(), stride)[:, 0] == 0
    return torch.where(through, SKELETON, torch.where(empty, BACKGROUND, NEITHER))


def skeleton(mask: Tensor, layers: int) -> Tensor:
    """What an opening takes from the mask, and from each of its erosions by one voxel more.

    Of a mask it is what MONAI's ``soft_skel`` (Shit et al., CVPR 2021) is of soft values, without its pooling, which on
    a CPU costs more than a training step.

    Args:
        mask: bool B×1×D×H×W.
        layers: erosions.

    Returns:
        bool B×1×D×H×W.
    """
    found = torch.zeros_like(mask)
    for _ in range(layers + 1):
        eroded = mask.clone()
        for axis in (2, 3, 4):
            _pairwise(eroded, mask, axis, torch.Tensor.logical_and_)
        opened = eroded
        for axis in (2, 3, 4):
            wider = opened.clone()
            _pairwise(wider, opened, axis, torch.Tensor.logical_or_)
            opened = wider
        found |= mask & ~opened
        mask = eroded
    return found


def _pairwise(values: Tensor, others: Tensor, axis: int, join: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Join each voxel with both of its neighbours along an axis, in place; there are none beyond the faces."""
    last = values.shape[axis] - 1
    join(values.narrow(axis, 1, last), others.narrow(axis, 0, last))
    join(values.narrow(axis, 0, last), others.narrow(axis, 1, last))


def _samples(embedding: Tensor, valid: Tensor) -> Samples:
    """Samples …×K, each a group of its own: all others of its side are its positives."""
    taken = valid[:, : embedding.shape[1]].flatten() > 0
    number = torch.arange(len(taken), device=taken.device)
    flat = embedding.flatten(0, 1)
    return Samples(flat, torch.where(taken, number, -1), torch.zeros_like(flat[:, 0]))
