"""What the augmentations can be told."""

from __future__ import annotations

from dataclasses import dataclass

from datamodules.registry import Registry

AUGMENTATIONS = Registry("augmentation")


@dataclass
class AugmentationConfig:
    """What every augmentation has: its name."""

    name: str


@AUGMENTATIONS.register("none", target="datamodules.augmentation.pipeline:build")
@dataclass
class NoneConfig(AugmentationConfig):
    """Patches as they are."""

    name: str = "none"


@AUGMENTATIONS.register("light", target="datamodules.augmentation.pipeline:build")
@dataclass
class LightConfig(AugmentationConfig):
    """Small rotations and scalings, a little noise and brightness.

    A range of no width, or 0, switches its transform off. Mirroring is not offered: the abdomen has a left and a
    right. Nor is translation: where a patch lies is drawn already.

    Attributes:
        spatial: probability of the rotation, of the scaling and of the elastic deformation, each by itself.
        rotation: largest angle about each of the three axes, degrees.
        zoom: range of the magnification; above 1 the organ grows.
        anisotropy: by how much, as a share, an axis is at most magnified beside the others.
        elastic: largest displacement of an elastic deformation, mm.
        elastic_spacing: distance of its control points, mm; at least six times ``elastic``, so that nothing folds.
        intensity: probability of each transform below, each by itself.
        noise: largest standard deviation of Gaussian noise, as a share of the HU window.
        blur: range of a Gaussian blur's standard deviation, voxels.
        brightness: range of a factor on the intensities.
        contrast: range of a factor on their deviation from the patch's mean.
        gamma: range of the exponent γ in x^γ; half of the time 1 − (1 − x)^γ.
        coarseness: range of the voxel size, in voxels, that a lower resolution is simulated with.
    """

    name: str = "light"
    spatial: float = 0.5
    rotation: float = 10.0
    zoom: tuple[float, float] = (0.9, 1.1)
    anisotropy: float = 0.03
    elastic: float = 0.0
    elastic_spacing: float = 32.0
    intensity: float = 0.3
    noise: float = 0.05
    blur: tuple[float, float] = (0.0, 0.0)
    brightness: tuple[float, float] = (0.9, 1.1)
    contrast: tuple[float, float] = (1.0, 1.0)
    gamma: tuple[float, float] = (1.0, 1.0)
    coarseness: tuple[float, float] = (1.0, 1.0)


@AUGMENTATIONS.register("standard", target="datamodules.augmentation.pipeline:build")
@dataclass
class StandardConfig(LightConfig):
    """The usual strong augmentation of the field: wide affine, elastic, blur, gamma, contrast, low resolution.

    Ranges and order follow the supplement of nnU-Net (Isensee et al., Nature Methods 2021), with one probability
    for all intensities, the variance of the noise turned into a share of the window, and a mild elastic
    deformation beside.
    """

    name: str = "standard"
    spatial: float = 0.2
    rotation: float = 30.0
    zoom: tuple[float, float] = (0.7, 1.4)
    anisotropy: float = 0.05
    elastic: float = 5.0
    intensity: float = 0.15
    noise: float = 0.1
    blur: tuple[float, float] = (0.5, 1.5)
    brightness: tuple[float, float] = (0.7, 1.3)
    contrast: tuple[float, float] = (0.65, 1.5)
    gamma: tuple[float, float] = (0.7, 1.5)
    coarseness: tuple[float, float] = (1.0, 2.0)
