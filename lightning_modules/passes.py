"""How a batch runs through the network: as it is and then corrupted, or once, every second sample corrupted.

B sample, D H W voxels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from datamodules.batch import PatchBatch
from lightning_modules.config import ModelConfig, RestorationConfig
from lightning_modules.networks.backbone import Backbone
from lightning_modules.pretraining import pretrains
from lightning_modules.regions.choices.choice import Choice, Sight
from lightning_modules.regions.choices.config import REGIONS
from lightning_modules.regions.corruption import Corrupted, Corruption
from lightning_modules.restoration_settings import corrupts
from lightning_modules.schedules import Progress
from lightning_modules.views import CorruptedView, Views


class CorruptedPass(nn.Module, ABC):
    """Chooses the region M, corrupts, and looks at the result.

    Args:
        config: of the restoration.
        network: of the module; it is not kept.
        spacing: of the voxels along D, H, W, mm.
        seed: of the run.

    Raises:
        UsageError: a setting that leaves nothing to corrupt.
    """

    def __init__(
        self, config: RestorationConfig, network: Backbone, spacing: tuple[float, float, float], seed: int
    ) -> None:
        super().__init__()
        self.choice: Choice = REGIONS.build(config.region, network, seed)
        self.ramp = config.ramp
        self.corruption = Corruption(config.corruption, spacing, seed)

    def corrupt(self, batch: PatchBatch, region: Tensor, progress: Progress) -> Corrupted:
        """The batch corrupted in its region M, as strongly as is due by now."""
        strength = progress.ramp(self.corruption.config.ramp)
        return self.corruption(batch.image, region, batch.distance, batch.key, strength)

    @abstractmethod
    def forward(self, network: Backbone, batch: PatchBatch, progress: Progress) -> Views:
        """Everything that the network sees of a batch."""


class TwoPasses(CorruptedPass):
    """A pass of the batch as it is, then one of all its samples corrupted where the first one says.

    Args:
        config: of the restoration.
        network: of the module; it is not kept.
        decode: whether a term needs the decoder's features or logits of the corrupted image.
        spacing: of the voxels along D, H, W, mm.
        seed: of the run.
        look: whether anything reads the pass of the batch as it is; it is left out otherwise.

    Raises:
        UsageError: a setting that leaves nothing to corrupt.
    """

    def __init__(
        self,
        config: RestorationConfig,
        network: Backbone,
        decode: bool,
        spacing: tuple[float, float, float],
        seed: int,
        look: bool = True,
    ) -> None:
        super().__init__(config, network, spacing, seed)
        self.decode = decode
        self.look = look

    def forward(self, network: Backbone, batch: PatchBatch, progress: Progress) -> Views:
        """Look, corrupt where that is uncertain, and look again."""
        views = Views(batch, clean=network(batch.image) if self.look else network.unseen(batch.image))
        region: Tensor = self.choice(Sight(batch, progress.passed(self.ramp), network, views))
        corrupted = self.corrupt(batch, region, progress)
        encoder = network.encode(corrupted.image)
        decoded = network.decode(encoder) if self.decode else None
        views.corrupted = CorruptedView(corrupted.image, corrupted.mask, region, encoder, decoded)
        return views


class OnePass(CorruptedPass):
    """One pass of a batch whose every second sample is corrupted: little dearer than segmentation alone.

    Which ones is a matter of their own keys, so that a sample is corrupted or not whatever batch and rank it is in. M
    can't depend on a prediction, which comes too late.
    """

    def forward(self, network: Backbone, batch: PatchBatch, progress: Progress) -> Views:
        """Corrupt every second sample, and look at them all."""
        samples = [i for i, (epoch, index) in enumerate(batch.key.tolist()) if (epoch + index) % 2]
        image = batch.image
        region, mask = (torch.zeros_like(image, dtype=torch.bool) for _ in range(2))
        if samples:
            part = _part(batch, samples)
            chosen: Tensor = self.choice(Sight(part, progress.passed(self.ramp), network))
            corrupted = self.corrupt(part, chosen, progress)
            image = image.clone()
            for place, *values in zip(samples, corrupted.image, chosen, corrupted.mask, strict=True):
                image[place], region[place], mask[place] = values
        clean = network(image)
        return Views(batch, clean, CorruptedView(image, mask, region, clean.encoder, None, samples))


def build_corrupted_pass(
    config: ModelConfig, network: Backbone, spacing: tuple[float, float, float], seed: int
) -> CorruptedPass | None:
    """The passes that the terms of a model ask for; None where they look at images as they are alone.

    Args:
        config: of the model.
        network: of the module; it is not kept.
        spacing: of the voxels along D, H, W, mm.
        seed: of the run.

    Raises:
        UsageError: a setting that leaves nothing to corrupt.
    """
    if not corrupts(config):
        return None
    settings, contrasts = config.restoration, config.contrastive.weight > 0
    if settings.passes == "one":
        return OnePass(settings, network, spacing, seed)
    segments = settings.weight > 0 and settings.segment_corrupted and not pretrains(config)
    decode = segments or settings.decoder == "shared" or (contrasts and config.contrastive.views == "both")
    return TwoPasses(settings, network, decode, spacing, seed, look=contrasts or not pretrains(config))


def _part(batch: PatchBatch, samples: list[int]) -> PatchBatch:
    image, label, distance, axis, key, case, _ = batch
    return PatchBatch(
        image[samples], label[samples], distance[samples], axis[samples], key[samples], [case[i] for i in samples]
    )
