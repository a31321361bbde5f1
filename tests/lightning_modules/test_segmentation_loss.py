"""L_seg equals its formula and MONAI's, per sample, and is never NaN."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from torch.nn import functional as F

from lightning_modules.losses.segmentation import (
    at_strides,
    cross_entropy_loss,
    deep_segmentation_loss,
    segmentation_loss,
)


def pair(samples: int = 3, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(samples, 1, size, size, size, generator=generator, dtype=torch.float64)
    label = (torch.rand(samples, 1, size, size, size, generator=generator) < 0.3).double()
    return logits, label


def test_equals_monais_dice_plus_torchs_cross_entropy() -> None:
    logits, label = pair()
    dice = DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, label)
    expected = dice + F.binary_cross_entropy_with_logits(logits, label)
    torch.testing.assert_close(segmentation_loss(logits, label), expected, rtol=1e-12, atol=0)


def test_is_the_mean_of_its_samples() -> None:
    logits, label = pair()
    one_by_one = torch.stack([segmentation_loss(logits[i : i + 1], label[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(segmentation_loss(logits, label), one_by_one.mean(), rtol=1e-12, atol=0)


def test_deep_logits_weigh_half_and_a_quarter_against_labels_of_half_full_cells() -> None:
    logits, label = pair()
    deep = [logits[..., ::2, ::2, ::2], logits[..., ::4, ::4, ::4]]
    cells = [(F.avg_pool3d(label, k) >= 0.5).double() for k in (2, 4)]
    parts = [segmentation_loss(a, b) for a, b in zip([logits, *deep], [label, *cells], strict=True)]
    expected = (parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75
    torch.testing.assert_close(deep_segmentation_loss(logits, deep, label), expected, rtol=1e-12, atol=0)


def test_cross_entropy_alone_is_torchs_also_at_strides() -> None:
    logits, label = pair()
    assert cross_entropy_loss(logits, label) == F.binary_cross_entropy_with_logits(logits, label)
    half = logits[..., ::2, ::2, ::2]
    cells = (F.avg_pool3d(label, 2) >= 0.5).double()
    expected = (cross_entropy_loss(logits, label) + cross_entropy_loss(half, cells) / 2) / 1.5
    torch.testing.assert_close(at_strides(cross_entropy_loss, logits, [half], label), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("fill", [0.0, 1.0, None])
@pytest.mark.parametrize("scale", [0.0, 1.0, 6e4])
def test_finite_in_half_precision_for_empty_full_and_one_voxel_masks(fill: float | None, scale: float) -> None:
    label = torch.full((1, 1, 8, 8, 8), fill or 0.0)
    if fill is None:
        label[0, 0, 3, 3, 3] = 1
    logits = (scale * torch.randn(label.shape, generator=torch.Generator().manual_seed(0))).clamp(-6e4, 6e4)
    for dtype in (torch.float16, torch.bfloat16):
        leaf = logits.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            loss = segmentation_loss(leaf, label)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
