"""What augmentations have in common: their registry, what is done to the geometry, and the light intensities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from datamodules.errors import UsageError
from datamodules.registry import Registry

AUGMENTATIONS = Registry("augmentation")

FOLDING = 6.0
"""Control points of a trilinear displacement field may each move by a sixth of their distance and nothing folds:
the rows of its Jacobian then sum to less than 1."""

Faults = Iterator[tuple[str, str]]
"""What can't be drawn from: the key below ``data.augmentation``, and the sentence that follows it."""


@dataclass
class AugmentationConfig:
    """What every augmentation has: its name."""

    name: str

    @property
    def appearances(self) -> int:
        """Images that a patch is made into; the network sees them all."""
        return 1

    @property
    def mixes(self) -> bool:
        """Whether a sample takes something from its neighbour in the batch."""
        return False

    def faults(self) -> Faults:
        """None."""
        yield from ()


@AUGMENTATIONS.register("none", target="datamodules.augmentation.pipeline:build")
@dataclass
class NoneConfig(AugmentationConfig):
    """Patches as they are."""

    name: str = "none"


@dataclass
class SpatialConfig(AugmentationConfig):
    """Rotation, scaling and elastic deformation.

    A range of no width, or 0, switches its transform off. Mirroring is not offered: the abdomen has a left and a
    right. Nor is translation: where a patch lies is drawn already.

    Attributes:
        spatial: probability of the rotation, of the scaling and of the elastic deformation, each by itself.
        rotation: largest angle about each of the three axes, degrees.
        zoom: range of the magnification; above 1 the organ grows.
        anisotropy: by how much, as a share, an axis is at most magnified beside the others.
        elastic: largest displacement of an elastic deformation, mm.
        elastic_spacing: distance of its control points, mm; at least six times ``elastic``, so that nothing folds.
    """

    spatial: float = 0.5
    rotation: float = 10.0
    zoom: tuple[float, float] = (0.9, 1.1)
    anisotropy: float = 0.03
    elastic: float = 0.0
    elastic_spacing: float = 32.0

    def faults(self) -> Faults:
        """A probability or a range that is none, a field that would fold."""
        yield from unlike(self, "a probability between 0 and 1", is_share, "spatial")
        yield from unlike(self, "at least 0", is_not_negative, "rotation", "anisotropy", "elastic")
        yield from unlike(self, "two numbers above 0, the lower first", rises_above(0), "zoom")
        rule = f"at most a sixth of data.augmentation.elastic_spacing = {self.elastic_spacing} mm"
        yield from unlike(self, rule, lambda largest: largest * FOLDING <= self.elastic_spacing, "elastic")


@AUGMENTATIONS.register("light", target="datamodules.augmentation.pipeline:build")
@dataclass
class LightConfig(SpatialConfig):
    """Small rotations and scalings, a little noise and brightness.

    Attributes:
        intensity: probability of each transform below, each by itself.
        noise: largest standard deviation of Gaussian noise, as a share of the HU window.
        blur: range of a Gaussian blur's standard deviation, voxels.
        brightness: range of a factor on the intensities.
        contrast: range of a factor on their deviation from the patch's mean.
        gamma: range of the exponent γ in x^γ; half of the time 1 − (1 − x)^γ.
        coarseness: range of the voxel size, in voxels, that a lower resolution is simulated with.
    """

    name: str = "light"
    intensity: float = 0.3
    noise: float = 0.05
    blur: tuple[float, float] = (0.0, 0.0)
    brightness: tuple[float, float] = (0.9, 1.1)
    contrast: tuple[float, float] = (1.0, 1.0)
    gamma: tuple[float, float] = (1.0, 1.0)
    coarseness: tuple[float, float] = (1.0, 1.0)

    def faults(self) -> Faults:
        """A probability or a range that is none."""
        yield from super().faults()
        yield from unlike(self, "a probability between 0 and 1", is_share, "intensity")
        yield from unlike(self, "at least 0", is_not_negative, "noise")
        yield from unlike(
            self, "two numbers above 0, the lower first", rises_above(0), "brightness", "contrast", "gamma"
        )
        yield from unlike(self, "two numbers from 0, the lower first", rises_from(0), "blur")
        yield from unlike(self, "two numbers from 1, the lower first", rises_from(1), "coarseness")


def unlike(config: AugmentationConfig, rule: str, holds: Callable[[Any], bool], *keys: str) -> Faults:
    """The keys whose value breaks the rule."""
    for key in keys:
        if not holds(getattr(config, key)):
            yield key, f"must be {rule}, not {getattr(config, key)}"


def is_share(value: float) -> bool:
    """Between 0 and 1."""
    return 0 <= value <= 1


def is_not_negative(value: float) -> bool:
    """0 or more."""
    return value >= 0


def rises_above(least: float) -> Callable[[tuple[float, float]], bool]:
    """A pair above ``least``, the lower first."""
    return lambda pair: least < pair[0] <= pair[1]


def rises_from(least: float) -> Callable[[tuple[float, float]], bool]:
    """A pair from ``least`` on, the lower first."""
    return lambda pair: least <= pair[0] <= pair[1]


def refuse_faults(config: AugmentationConfig) -> None:
    """Refuse an augmentation that can't be drawn.

    Raises:
        UsageError: with the first of its faults.
    """
    for key, sentence in config.faults():
        raise UsageError(f"data.augmentation.{key} {sentence}")
