"""From raw patches to a training batch, on the device that trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.augmentation.config import AugmentationConfig, LightConfig
from datamodules.augmentation.intensity import augment_intensity
from datamodules.augmentation.spatial import (
    FOLDING,
    Deformation,
    Spacing,
    Voxel,
    draw_deformation,
    resample,
)
from datamodules.batch import OUTSIDE_AXIS, PatchBatch
from datamodules.errors import UsageError
from datamodules.patches import FAR, RawPatchBatch
from datamodules.store import AXIS_OUTSIDE, AXIS_STEPS, DISTANCE_SCALE
from datamodules.window import apply_window


@dataclass(frozen=True)
class Augmentation:
    """Augments each sample by what is drawn for its key, and turns whole numbers into the network's input.

    Samples are worked on one by one and stacked at the end: they come with margins of different size, a transform
    costs nothing where it was not drawn, and no sample's bits depend on its neighbours in a batch.

    Attributes:
        config: what is drawn; ``none`` draws nothing.
        seed: of the run.
        spacing: mm along D, H, W.
        window: HU that become 0 and 1.
        patch_size: D, H, W of a patch.
    """

    config: AugmentationConfig
    seed: int
    spacing: Spacing
    window: tuple[float, float]
    patch_size: Voxel

    def margin(self, epoch: int, index: int) -> Voxel:
        """Voxels along D, H, W to read on either side of a sample's patch, so that no border comes into view."""
        deformation = self._deformation(epoch, index)
        return (0, 0, 0) if deformation is None else deformation.margin(self.patch_size)

    @torch.no_grad()
    def __call__(self, raw: RawPatchBatch) -> PatchBatch:
        """The training batch of raw patches that were read with :meth:`margin`."""
        samples = [
            self._sample(image, torch.stack([label.short(), distance, axis.short()]), epoch, index)
            for image, label, distance, axis, (epoch, index) in zip(
                raw.image, raw.label, raw.distance, raw.axis, raw.key, strict=True
            )
        ]
        image = torch.stack([image for image, _ in samples])[:, None]
        maps = torch.stack([maps for _, maps in samples])
        key = torch.tensor(raw.key, dtype=torch.int64)
        return PatchBatch(image, maps[:, 0:1], maps[:, 1:2], maps[:, 2:3], key, raw.case)

    def _sample(self, hu: Tensor, maps: Tensor, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Image in [0, 1] and the maps label, distance (mm), axis as :class:`PatchBatch` has them."""
        deformation = self._deformation(epoch, index)
        hu, maps, zoom = hu.float(), maps.float(), 1.0
        if deformation is not None:
            hu, maps = resample(hu, maps, deformation, self.patch_size)
            zoom = deformation.zoom
        image = apply_window(hu, self.window)
        if isinstance(self.config, LightConfig):
            image = augment_intensity(image, self.config, self.seed, epoch, index)
        label, distance, axis = maps
        axis = torch.where(axis == AXIS_OUTSIDE, OUTSIDE_AXIS, axis / AXIS_STEPS)
        return image, torch.stack([label, _zoomed(distance / DISTANCE_SCALE, zoom), axis])

    def _deformation(self, epoch: int, index: int) -> Deformation | None:
        if not isinstance(self.config, LightConfig):
            return None
        return draw_deformation(self.config, self.spacing, self.patch_size, self.seed, epoch, index)


def _zoomed(distance: Tensor, zoom: float) -> Tensor:
    # Exact for a zoom alike on all axes; else off by no more than the anisotropy. "That far or farther" stays so.
    return torch.where(distance.abs() >= FAR, distance, (distance * zoom).clamp(-FAR, FAR))


def build(
    config: AugmentationConfig, seed: int, spacing: Spacing, window: tuple[float, float], patch_size: Voxel
) -> Augmentation:
    """The augmentation of a configuration; the arguments are :class:`Augmentation`'s.

    Raises:
        UsageError: a range that can't be drawn from.
    """
    if isinstance(config, LightConfig):
        _check(config)
    return Augmentation(config, seed, spacing, window, patch_size)


def _check(config: LightConfig) -> None:
    def refuse(key: str, rule: str) -> None:
        raise UsageError(f"data.augmentation.{key} must be {rule}, not {getattr(config, key)}")

    for key in ("spatial", "intensity"):
        if not 0 <= getattr(config, key) <= 1:
            refuse(key, "a probability between 0 and 1")
    for key in ("rotation", "anisotropy", "elastic", "noise"):
        if not getattr(config, key) >= 0:
            refuse(key, "at least 0")
    for key in ("zoom", "brightness", "contrast", "gamma"):
        low, high = getattr(config, key)
        if not 0 < low <= high:
            refuse(key, "two numbers above 0, the lower first")
    if not 0 <= config.blur[0] <= config.blur[1]:
        refuse("blur", "two numbers from 0, the lower first")
    if not 1 <= config.coarseness[0] <= config.coarseness[1]:
        refuse("coarseness", "two numbers from 1, the lower first")
    if config.elastic * FOLDING > config.elastic_spacing:
        refuse("elastic", f"at most a sixth of data.augmentation.elastic_spacing = {config.elastic_spacing} mm")
