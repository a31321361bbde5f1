"""L_seg: soft Dice and binary cross-entropy, per sample, then their mean over the batch.

B sample, D H W voxels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.precision import at_least_float32, no_autocast

SMOOTH = 1e-5


def segmentation_loss(logits: Tensor, label: Tensor, counted: Tensor | None = None) -> Tensor:
    """Soft Dice loss (Milletari et al., 2016; not squared, smooth 1e-5) plus binary cross-entropy, equal weights.

    Args:
        logits: B×1×D×H×W.
        label: B×1×D×H×W, 0 or 1.
        counted: bool B, samples that count; the others count 0. None: all count.

    Returns:
        Scalar in at least float32.
    """
    with no_autocast(logits):
        logits = at_least_float32(logits).flatten(1)
        label = label.to(logits.dtype).flatten(1)
        probability = logits.sigmoid()
        overlap = (probability * label).sum(1)
        dice = (2 * overlap + SMOOTH) / (probability.sum(1) + label.sum(1) + SMOOTH)
        entropy = F.binary_cross_entropy_with_logits(logits, label, reduction="none").mean(1)
        losses = 1 - dice + entropy
        if counted is not None:
            losses = torch.where(counted, losses, 0)
        return losses.mean()


def deep_segmentation_loss(logits: Tensor, deep: list[Tensor], label: Tensor, counted: Tensor | None = None) -> Tensor:
    """The same at strides 1, 2, 4, …: :func:`at_strides`.

    Args:
        logits: B×1×D×H×W.
        deep: logits at strides 2, 4, …; without any this is :func:`segmentation_loss`.
        label: B×1×D×H×W.
        counted: bool B, samples that count; the others count 0. None: all count.
    """
    return at_strides(lambda found, wanted: segmentation_loss(found, wanted, counted), logits, deep, label)


def cross_entropy_loss(logits: Tensor, label: Tensor, counted: Tensor | None = None) -> Tensor:
    """Binary cross-entropy alone; of equal samples the mean over all voxels is their mean.

    Args:
        logits: B×1×D×H×W.
        label: B×1×D×H×W, 0 or 1.
        counted: bool B, samples that count; the others count 0. None: all count.

    Returns:
        Scalar in at least float32.
    """
    with no_autocast(logits):
        logits = at_least_float32(logits)
        label = label.to(logits.dtype)
        if counted is None:
            return F.binary_cross_entropy_with_logits(logits, label)
        losses = F.binary_cross_entropy_with_logits(logits, label, reduction="none").flatten(1).mean(1)
        return torch.where(counted, losses, 0).mean()


def at_strides(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, deep: list[Tensor], label: Tensor) -> Tensor:
    """A loss at strides 1, 2, 4, … with weights 1, ½, ¼, … that sum to 1 (as nnU-Net weighs them).

    Args:
        loss: of logits and label, both B×1×D×H×W.
        logits: B×1×D×H×W.
        deep: logits at strides 2, 4, …; without any this is ``loss`` itself.
        label: B×1×D×H×W; a coarse cell is pancreas if at least half of its voxels are.
    """
    total = loss(logits, label)
    for level, coarse in enumerate(deep, start=1):
        cells = (F.avg_pool3d(label, 2**level) >= 0.5).to(label.dtype)
        total = total + loss(coarse, cells) / 2**level
    weights: float = sum(0.5**level for level in range(len(deep) + 1))
    return total / weights
