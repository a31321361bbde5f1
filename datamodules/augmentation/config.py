"""What the augmentations can be told: none, light and standard, and the rivals that are augmentations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datamodules.augmentation.base import (
    AUGMENTATIONS,
    AugmentationConfig,
    Faults,
    LightConfig,
    NoneConfig,
    SpatialConfig,
    is_not_negative,
    is_share,
    rises_above,
    rises_from,
    unlike,
)

__all__ = ["AUGMENTATIONS", "AugmentationConfig", "LightConfig", "NoneConfig", "SpatialConfig", "StandardConfig"]


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


@AUGMENTATIONS.register("bigaug", target="datamodules.augmentation.pipeline:build")
@dataclass
class BigAugConfig(SpatialConfig):
    """BigAug (Zhang et al., IEEE TMI 2020): a stack of nine transforms, each with a probability of a half.

    The nine, their order among each other and the probability are the paper's. Ours: the ranges, set for a CT window,
    of which tissue must not be pushed out; geometry first, then intensities, as everything here; one elastic field
    that can't fold.

    Attributes:
        intensity: probability of each transform below, each by itself.
        sharpness: range of the strength of an unsharp mask.
        blur: range of a Gaussian blur's standard deviation, voxels.
        noise: largest standard deviation of Gaussian noise, as a share of the HU window.
        brightness: largest shift, as a share of the HU window.
        contrast: range of the exponent γ in x^γ, which the paper calls contrast.
        perturbation: largest share by which intensities are scaled and, drawn apart, shifted.
    """

    name: str = "bigaug"
    rotation: float = 20.0
    zoom: tuple[float, float] = (0.6, 1.5)
    anisotropy: float = 0.0
    elastic: float = 5.0
    intensity: float = 0.5
    sharpness: tuple[float, float] = (1.0, 10.0)
    blur: tuple[float, float] = (0.25, 1.5)
    noise: float = 0.1
    brightness: float = 0.1
    contrast: tuple[float, float] = (0.5, 2.0)
    perturbation: float = 0.1

    def faults(self) -> Faults:
        """A probability or a range that is none."""
        yield from super().faults()
        yield from unlike(self, "a probability between 0 and 1", is_share, "intensity", "brightness", "perturbation")
        yield from unlike(self, "at least 0", is_not_negative, "noise")
        yield from unlike(self, "two numbers above 0, the lower first", rises_above(0), "contrast")
        yield from unlike(self, "two numbers from 0, the lower first", rises_from(0), "sharpness", "blur")


@dataclass
class ViewsConfig(LightConfig):
    """Light augmentation, and then an appearance that is drawn anew for each view of a patch.

    Attributes:
        views: of a patch. Of 2, which share their geometry and their light augmentation, both are segmented; what
            else is done with the second is said by ``model.consistency`` and ``model.fusion``.
    """

    views: Literal[1, 2] = 1

    @property
    def appearances(self) -> int:
        """The views."""
        return self.views


@AUGMENTATIONS.register("gin", target="datamodules.augmentation.pipeline:build")
@dataclass
class GINConfig(ViewsConfig):
    """GIN, global intensity non-linear augmentation (Ouyang et al., IEEE TMI 2022), in 3-D.

    Of the paper's two parts (GIN, and the pseudo-correlation of interventions IPA) this is the first.

    Attributes:
        layers: random convolutions, a leaky ReLU between each two.
        channels: between them.
        kernels: edge of a convolution's kernel, odd; each layer draws one of these.
        alpha: range of the part of the mixture that the random network makes; the rest is the patch as it is.
    """

    name: str = "gin"
    layers: int = 4
    channels: int = 2
    kernels: tuple[int, ...] = (1, 3)
    alpha: tuple[float, float] = (0.0, 1.0)

    def faults(self) -> Faults:
        """Numbers and ranges that are none."""
        yield from super().faults()
        yield from unlike(self, "at least 1", lambda count: count >= 1, "layers", "channels")
        yield from unlike(self, "one odd number or more", _are_odd, "kernels")
        yield from unlike(
            self, "two numbers between 0 and 1, the lower first", lambda pair: 0 <= pair[0] <= pair[1] <= 1, "alpha"
        )


@AUGMENTATIONS.register("randconv", target="datamodules.augmentation.pipeline:build")
@dataclass
class RandConvConfig(ViewsConfig):
    """RandConv (Xu et al., ICLR 2021), in 3-D: one random convolution, of a kernel size that is random too.

    By default in the paper's mixed form; its other form is ``mix: false`` with a ``keep`` of a half.

    Attributes:
        kernels: edge of the kernel, odd; one is drawn.
        keep: probability of leaving a patch as it is.
        mix: mix the result with the patch, by a share that is uniform in [0, 1].
    """

    name: str = "randconv"
    kernels: tuple[int, ...] = (1, 3, 5, 7)
    keep: float = 0.0
    mix: bool = True

    def faults(self) -> Faults:
        """Numbers that are none."""
        yield from super().faults()
        yield from unlike(self, "one odd number or more", _are_odd, "kernels")
        yield from unlike(self, "a probability between 0 and 1", is_share, "keep")


@AUGMENTATIONS.register("slaug", target="datamodules.augmentation.pipeline:build")
@dataclass
class SLAugConfig(ViewsConfig):
    """SLAug's location-scale augmentation (Su et al., AAAI 2023): a Bézier curve, a factor and a shift.

    Of two views the first is its *global* form, one draw for the whole patch, and the second its *local* form, one for
    the pancreas and one for the rest, which the label tells apart. Of one view it is either, by turns of a coin. The
    paper's fusion of the two by saliency is ``model.fusion``.

    Attributes:
        scale: largest share by which the factor deviates from 1; its standard deviation too.
        shift: standard deviation of the shift, as a share of the HU window.
        inversion: probability that a curve of the local form falls instead of rising. The paper inverts; HU is
            calibrated, so that here it is off unless asked for.
    """

    name: str = "slaug"
    scale: float = 0.1
    shift: float = 0.5
    inversion: float = 0.0

    def faults(self) -> Faults:
        """Numbers that are none."""
        yield from super().faults()
        yield from unlike(self, "a share between 0 and 1", is_share, "scale", "inversion")
        yield from unlike(self, "at least 0", is_not_negative, "shift")


@AUGMENTATIONS.register("cutmix", target="datamodules.augmentation.pipeline:build")
@dataclass
class CutMixConfig(LightConfig):
    """CutMix (Yun et al., ICCV 2019), in 3-D and for segmentation: a box of the next sample of the batch is pasted.

    Attributes:
        mixing: probability of it.
    """

    name: str = "cutmix"
    mixing: float = 0.5

    @property
    def mixes(self) -> bool:
        """It does."""
        return True

    def faults(self) -> Faults:
        """A probability that is none."""
        yield from super().faults()
        yield from unlike(self, "a probability between 0 and 1", is_share, "mixing")


def _are_odd(edges: tuple[int, ...]) -> bool:
    return bool(edges) and all(edge >= 1 and edge % 2 for edge in edges)
