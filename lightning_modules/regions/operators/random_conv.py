"""A local random convolution (RandConv, Xu et al., 2021): texture changes, flat tissue keeps its HU."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lightning_modules.regions.operators import Cells

SIZE = 3
STRENGTH = 0.3
"""Standard deviation of the kernel's 27 random weights."""


def random_conv(image: Tensor, cells: Cells) -> Tensor:
    """Convolve with the identity plus random weights of sum zero, drawn per sample."""
    B, _, *shape = image.shape
    weights = STRENGTH * cells.draws.normal_per_sample("random_conv", SIZE**3)
    weights = weights - weights.mean(1, keepdim=True)
    weights[:, SIZE**3 // 2] += 1
    padded = F.pad(image, [SIZE // 2] * 6, mode="replicate").view(1, B, *(n + SIZE - 1 for n in shape))
    return F.conv3d(padded, weights.view(B, 1, SIZE, SIZE, SIZE), groups=B).view(B, 1, *shape)
