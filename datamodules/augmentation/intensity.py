"""Transforms of a patch's intensities, D×H×W in [0, 1]; small pure functions, and what is drawn for a sample."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.augmentation.base import LightConfig
from datamodules.randomness import numpy_generator, torch_generator


def noise(image: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """Add white Gaussian noise of standard deviation ``sd``; the generator lives on the image's device."""
    return image + sd * torch.randn(image.shape, generator=generator, device=image.device)


def blur(image: Tensor, sd: float) -> Tensor:
    """Convolve with a Gaussian of ``sd`` voxels, cut at three of them; faces are repeated outwards."""
    radius = math.ceil(3 * sd)
    taps = [math.exp(-0.5 * (offset / sd) ** 2) for offset in range(-radius, radius + 1)]
    total = sum(taps)
    for axis, size in enumerate(image.shape):
        index = torch.arange(-radius, size + radius, device=image.device).clamp_(0, size - 1)
        padded = image.index_select(axis, index)
        image = torch.zeros_like(image)
        for offset, tap in enumerate(taps):
            image.add_(padded.narrow(axis, offset, size), alpha=tap / total)
    return image


def contrast(image: Tensor, factor: float) -> Tensor:
    """Stretch the deviation from the patch's mean by ``factor``."""
    mean = image.mean()
    return (image - mean) * factor + mean


def gamma(image: Tensor, exponent: float, inverted: bool) -> Tensor:
    """x^γ, or 1 − (1 − x)^γ; what lies outside [0, 1] is clipped before."""
    image = image.clamp(0.0, 1.0)
    return 1 - (1 - image).pow(exponent) if inverted else image.pow(exponent)


def coarsen(image: Tensor, factor: float) -> Tensor:
    """What a grid with voxels ``factor`` times as long shows: nearest voxels taken, trilinear way back."""
    coarse = [max(1, round(size / factor)) for size in image.shape]
    small = F.interpolate(image[None, None], size=coarse, mode="nearest-exact")
    return F.interpolate(small, size=list(image.shape), mode="trilinear", align_corners=False)[0, 0]


def augment_intensity(image: Tensor, config: LightConfig, seed: int, epoch: int, index: int) -> Tensor:
    """What is drawn for a sample, in nnU-Net's order; the result is clipped to [0, 1].

    Each transform has a key of its own: switching one off leaves the others as they were.
    """

    def drawn(purpose: str, value_range: tuple[float, float]) -> float | None:
        generator = numpy_generator(seed, epoch, index, purpose)
        low, high = value_range
        chosen, value = generator.random() < config.intensity, float(generator.uniform(low, high))
        return value if chosen and value != _NEUTRAL[purpose] else None

    if (sd := drawn("noise", (0.0, config.noise))) is not None:
        image = noise(image, sd, torch_generator(seed, epoch, index, "noise voxels", device=image.device))
    if (sd := drawn("blur", config.blur)) is not None:
        image = blur(image, sd)
    if (factor := drawn("brightness", config.brightness)) is not None:
        image = image * factor
    if (factor := drawn("contrast", config.contrast)) is not None:
        image = contrast(image, factor)
    if (factor := drawn("coarseness", config.coarseness)) is not None:
        image = coarsen(image, factor)
    if (exponent := drawn("gamma", config.gamma)) is not None:
        inverted = bool(numpy_generator(seed, epoch, index, "gamma side").random() < 0.5)
        image = gamma(image, exponent, inverted)
    return image.clamp(0.0, 1.0)


_NEUTRAL = {"noise": 0.0, "blur": 0.0, "brightness": 1.0, "contrast": 1.0, "coarseness": 1.0, "gamma": 1.0}
