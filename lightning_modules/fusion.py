"""SLAug's saliency-balancing fusion (Su et al., AAAI 2023): the second view keeps the first where that matters.

Where the gradient of the first view's segmentation loss to the image is large, that view is kept; elsewhere the second
one comes in. Ours: the saliency is smoothed by averaging it in a coarse grid of cells and interpolating between them,
where the paper draws a quadratic spline through a grid, and a single Lightning step trains on both views.

B sample, D H W voxels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.losses.segmentation import segmentation_loss
from lightning_modules.precision import at_least_float32

CELLS = 6
"""Cells of the grid along each axis."""


def fuse(image: Tensor, other: Tensor, logits: Tensor, label: Tensor) -> Tensor:
    """``s·image + (1 − s)·other`` with the saliency s of :func:`saliency`; no gradient.

    Args:
        image: B×1×D×H×W, a leaf that the logits were computed from.
        other: B×1×D×H×W, the same patches otherwise.
        logits: B×1×D×H×W; their graph is kept.
        label: B×1×D×H×W, 0 or 1.
    """
    # The sum over voxels: of a mean over a large patch, half precision would keep nothing.
    loss = segmentation_loss(logits, label) * logits.numel()
    (gradient,) = torch.autograd.grad(loss, image, retain_graph=True)
    share = saliency(at_least_float32(gradient))
    return torch.lerp(other, image.detach(), share)


def saliency(gradient: Tensor) -> Tensor:
    """The size of a gradient B×1×D×H×W, coarse, smooth, and from 0 to 1 in each sample."""
    d, h, w = (min(CELLS, size) for size in gradient.shape[2:])
    coarse = F.adaptive_avg_pool3d(gradient.abs(), (d, h, w))
    low, high = (extreme(coarse, (1, 2, 3, 4), keepdim=True) for extreme in (torch.amin, torch.amax))
    coarse = (coarse - low) / (high - low).clamp(min=torch.finfo(coarse.dtype).tiny)
    return F.interpolate(coarse, size=gradient.shape[2:], mode="trilinear", align_corners=False)
