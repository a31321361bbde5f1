"""L_res: how far the restored appearance is from the true one, above all where it was corrupted.

B sample, D H W voxels.
"""

from __future__ import annotations

from monai.losses import SSIMLoss
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.precision import at_least_float32, no_autocast
from lightning_modules.restoration_settings import SSIM_WINDOW

_BOUNDS = (-1.0, 2.0)


def restoration_loss(restored: Tensor, target: Tensor, corrupted: Tensor, beta: float, rest: float) -> Tensor:
    """Mean error over the corrupted voxels plus ``rest`` × mean error over the others, per sample.

    Two means, not weights in one: the untouched part is so much larger that it would outweigh the corrupted one. A
    sample of which nothing (or everything) was corrupted counts 0 for the mean that has no voxel.

    Args:
        restored: B×1×D×H×W, what the decoder made of the corrupted image.
        target: B×1×D×H×W, the image before its corruption; gets no gradient.
        corrupted: bool B×1×D×H×W.
        beta: where smooth L1 turns from quadratic to linear, in units of the window.
        rest: weight of the untouched voxels.

    Returns:
        B losses in at least float32.
    """
    with no_autocast(restored):
        restored = at_least_float32(restored)
        target = target.detach().to(restored.dtype)
        error = F.smooth_l1_loss(restored, target, reduction="none", beta=beta).flatten(1)
        inside = corrupted.flatten(1).to(error.dtype)
        return _mean(error, inside) + rest * _mean(error, 1 - inside)


def structural_loss(restored: Tensor, target: Tensor) -> Tensor:
    """1 − SSIM (Wang et al., 2004) of whole patches, per sample, as MONAI computes it.

    Structure is compared in windows of 11³ voxels about every voxel that has such a window; there is no telling
    corrupted voxels from others in it.

    Args:
        restored: B×1×D×H×W, at least 11 voxels along each axis.
        target: B×1×D×H×W; gets no gradient.

    Returns:
        B losses in float32.
    """
    with no_autocast(restored):
        # SSIM takes variances as differences of squares: far from the window float32 has no digits left for them.
        bounded, target = restored.float().clamp(*_BOUNDS), target.detach().float()
        losses: Tensor = SSIMLoss(spatial_dims=3, win_size=SSIM_WINDOW, reduction="none")(bounded, target)
        return losses.flatten()


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    """Per sample; 0 where the weights are all 0."""
    return (error * weight).sum(1) / weight.sum(1).clamp(min=1)
