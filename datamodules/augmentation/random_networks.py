"""GIN and RandConv: an appearance from convolutions with random weights. Shapes stay, textures and grey values go.

Both were published for images of mean 0 and variance 1, so a patch is standardised before and brought back to its
own mean and spread after; where it then leaves [0, 1] it is squeezed into it as a whole, for to clip it would lose the
organ where grey values are inverted. That, repeating a patch's faces outwards and 3-D kernels are ours. Random weights
invert grey values about as often as not, as in both papers: calibrated HU lose their meaning, and a network must do
with shapes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.augmentation.config import GINConfig, RandConvConfig
from datamodules.augmentation.draws import Draws

SLOPE = 0.01
FLAT = 1e-6
"""Least spread and norm that are divided by: a flat patch stays as it is."""


def gin(image: Tensor, config: GINConfig, draws: Draws) -> Tensor:
    """A shallow network of random weights, mixed with the patch (Ouyang et al., IEEE TMI 2022).

    On the standardised patch x: ``y = α·g(x) + (1 − α)·x``, then ``y·‖x‖/‖y‖`` with Frobenius norms. Kernels and one
    bias a channel are standard normal. Ours: y's mean is taken off first, so that the rest is not scaled down with it.

    Args:
        image: float D×H×W in [0, 1].
        config: its settings.
        draws: of this view of the sample.

    Returns:
        D×H×W in [0, 1].
    """
    alpha = float(draws.numbers("gin alpha").uniform(*config.alpha))
    if alpha == 0:
        return image
    x, mean, spread = _standardised(image)
    return squeezed(blend(x, random_network(x, config, draws), alpha) * spread + mean)


def random_network(x: Tensor, config: GINConfig, draws: Draws) -> Tensor:
    """g(x) of a standardised D×H×W."""
    generator = draws.tensors("gin kernels")
    widths = [1, *[config.channels] * (config.layers - 1), 1]
    y = x[None, None]
    for layer, (inner, outer) in enumerate(pairwise(widths)):
        edge = config.kernels[int(torch.randint(len(config.kernels), (), generator=generator))]
        kernel = torch.randn(outer, inner, edge, edge, edge, generator=generator)
        bias = torch.randn(outer, generator=generator)
        y = _convolve(y, kernel, bias)
        if layer < config.layers - 1:
            y = F.leaky_relu(y, SLOPE)
    return y[0, 0]


def blend(x: Tensor, other: Tensor, alpha: float) -> Tensor:
    """``α·other + (1 − α)·x``, with mean 0 and the Frobenius norm of x."""
    mixed = alpha * other + (1 - alpha) * x
    mixed = mixed - mixed.mean()
    norm, mixed_norm = (torch.linalg.vector_norm(values) for values in (x, mixed))
    rescaled: Tensor = mixed * (norm / mixed_norm.clamp(min=FLAT))
    return rescaled


def randconv(image: Tensor, config: RandConvConfig, draws: Draws) -> Tensor:
    """One convolution with weights of variance 1/k³, mixed with the patch (Xu et al., ICLR 2021).

    Args:
        image: float D×H×W in [0, 1].
        config: its settings.
        draws: of this view of the sample.

    Returns:
        D×H×W in [0, 1].
    """
    numbers = draws.numbers("randconv")
    kept, edge, share = numbers.random() < config.keep, int(numbers.choice(config.kernels)), float(numbers.random())
    if kept:
        return image
    kernel = torch.randn(1, 1, edge, edge, edge, generator=draws.tensors("randconv kernel")) / edge**1.5
    x, mean, spread = _standardised(image)
    y = _convolve(x[None, None], kernel)[0, 0]
    if config.mix:
        y = share * x + (1 - share) * y
    return squeezed(y * spread + mean)


def squeezed(image: Tensor) -> Tensor:
    """An image whose values leave [0, 1], brought into it by one factor and one shift; another as it is."""
    low, high = image.amin().clamp(max=0), image.amax().clamp(min=1)
    return (image - low) / (high - low)


def _standardised(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The patch with mean 0 and variance 1, its mean and its spread."""
    mean, spread = image.mean(), image.std()
    return (image - mean) / spread.clamp(min=FLAT), mean, spread


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    reach = kernel.shape[-1] // 2
    x = F.pad(x, [reach] * 6, mode="replicate") if reach else x
    return F.conv3d(x, kernel.to(x), None if bias is None else bias.to(x))
