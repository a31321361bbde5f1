"""From raw patches to a training batch, on the device that trains or in the processes that read for a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import default_collate

from datamodules.augmentation.base import refuse_faults
from datamodules.augmentation.bigaug import bigaug
from datamodules.augmentation.config import (
    AugmentationConfig,
    BigAugConfig,
    CutMixConfig,
    GINConfig,
    LightConfig,
    RandConvConfig,
    SLAugConfig,
    SpatialConfig,
)
from datamodules.augmentation.cutmix import cutmix
from datamodules.augmentation.draws import Draws
from datamodules.augmentation.intensity import augment_intensity
from datamodules.augmentation.location_scale import slaug
from datamodules.augmentation.random_networks import gin, randconv
from datamodules.augmentation.spatial import (
    Deformation,
    Spacing,
    Voxel,
    draw_deformation,
    resample,
)
from datamodules.batch import OUTSIDE_AXIS, PatchBatch
from datamodules.patches import FAR, RawPatch, RawPatchBatch, collate
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

    def of_patches(self, patches: Sequence[RawPatch]) -> PatchBatch:
        """The training batch of single patches, by one thread: the same bits in a loader process and in the run's."""
        with _one_thread():
            return self(collate(patches))

    @torch.no_grad()
    def __call__(self, raw: RawPatchBatch) -> PatchBatch:
        """The training batch of raw patches that were read with :meth:`margin`."""
        samples = [
            self._sample(image, (label, distance, axis), *key)
            for image, label, distance, axis, key in zip(
                raw.image, raw.label, raw.distance, raw.axis, raw.key, strict=True
            )
        ]
        views = zip(*(images for images, _ in samples), strict=True)
        # default_collate stacks into shared memory where this is a loader process, so that nothing is copied once more.
        first, *second = [default_collate(list(images))[:, None] for images in views]
        patch = first.shape[2:]
        maps = default_collate([each for _, maps in samples for each in maps]).view(len(samples), 3, *patch)
        key = torch.tensor(raw.key, dtype=torch.int64)
        batch = PatchBatch(first, maps[:, 0:1], maps[:, 1:2], maps[:, 2:3], key, raw.case, *second)
        return cutmix(batch, self.config, self.seed) if isinstance(self.config, CutMixConfig) else batch

    def _sample(
        self, hu: Tensor, maps: Sequence[Tensor], epoch: int, index: int
    ) -> tuple[list[Tensor], tuple[Tensor, Tensor, Tensor]]:
        """Images in [0, 1], one a view, and the maps label, distance (mm), axis as :class:`PatchBatch` has them."""
        deformation = self._deformation(epoch, index)
        zoom = 1.0
        if deformation is not None:
            hu, maps = resample(hu.float(), maps, deformation, self.patch_size)
            zoom = deformation.zoom
        image = apply_window(hu, self.window)
        if isinstance(self.config, LightConfig):
            image = augment_intensity(image, self.config, self.seed, epoch, index)
        label, distance, axis = maps[0].float(), maps[1] / DISTANCE_SCALE, maps[2]
        images = [
            appearance(image, label, self.config, Draws(self.seed, epoch, index, view))
            for view in range(self.config.appearances)
        ]
        along = torch.where(axis == AXIS_OUTSIDE, OUTSIDE_AXIS, axis / AXIS_STEPS)
        return images, (label, _zoomed(distance, zoom), along)

    def _deformation(self, epoch: int, index: int) -> Deformation | None:
        if not isinstance(self.config, SpatialConfig):
            return None
        return draw_deformation(self.config, self.spacing, self.patch_size, self.seed, epoch, index)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def appearance(image: Tensor, label: Tensor, config: AugmentationConfig, draws: Draws) -> Tensor:
    """What a rival makes of an image D×H×W in [0, 1] after the light augmentation; clipped to [0, 1] again."""
    if isinstance(config, BigAugConfig):
        image = bigaug(image, config, draws)
    elif isinstance(config, GINConfig):
        image = gin(image, config, draws)
    elif isinstance(config, RandConvConfig):
        image = randconv(image, config, draws)
    elif isinstance(config, SLAugConfig):
        image = slaug(image, label, config, draws)
    else:
        return image
    return image.clamp(0.0, 1.0)


def _zoomed(distance: Tensor, zoom: float) -> Tensor:
    if zoom == 1:
        return distance
    # Exact for a zoom alike on all axes; else off by no more than the anisotropy. "That far or farther" stays so.
    return torch.where(distance.abs() >= FAR, distance, (distance * zoom).clamp(-FAR, FAR))


def build(
    config: AugmentationConfig, seed: int, spacing: Spacing, window: tuple[float, float], patch_size: Voxel
) -> Augmentation:
    """The augmentation of a configuration; the arguments are :class:`Augmentation`'s.

    Raises:
        UsageError: a range that can't be drawn from.
    """
    refuse_faults(config)
    return Augmentation(config, seed, spacing, window, patch_size)
