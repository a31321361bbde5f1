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
    """Small rotations and scalings, a little noise and brightness."""

    name: str = "light"


@AUGMENTATIONS.register("standard", target="datamodules.augmentation.pipeline:build")
@dataclass
class StandardConfig(AugmentationConfig):
    """The usual strong augmentation of the field: wide affine, elastic, blur, gamma, contrast, low resolution."""

    name: str = "standard"
