"""The two views of a batch that the terms of the loss compare: as it is, and with its appearance corrupted.

B sample, D H W voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from datamodules.batch import PatchBatch
from datamodules.errors import UsageError
from lightning_modules.config import RegionConfig, RestorationConfig
from lightning_modules.networks.backbone import Backbone, Features
from lightning_modules.regions.candidates import band_excess, choose_region, score
from lightning_modules.regions.corruption import Corruption
from lightning_modules.regions.uncertainty import entropy
from lightning_modules.schedules import Progress


@dataclass
class CorruptedView:
    """The second pass.

    Attributes:
        mask: bool B×1×D×H×W, M̃: where appearance was corrupted.
        encoder: encoder features by stride.
        decoded: the whole pass; None where no term needs the decoder's part.
        band_excess: scalar, share of M that the entropy chose beyond the band.
    """

    mask: Tensor
    encoder: dict[int, Tensor]
    decoded: Features | None
    band_excess: Tensor


@dataclass
class Views:
    """A batch and what the network makes of it.

    Attributes:
        batch: the augmented patches.
        clean: the pass of the patches as they are.
        corrupted: the pass of the corrupted patches; None where nothing is restored.
    """

    batch: PatchBatch
    clean: Features
    corrupted: CorruptedView | None = None

    @cached_property
    def uncertainty(self) -> Tensor:
        """U, B×1×D×H×W in [0, 1], without gradient; computed when the first term asks for it."""
        return entropy(self.clean.logits)


class CorruptedPass:
    """From the clean pass to the corrupted one: uncertainty, region M, corruption, second pass.

    Args:
        config: of the restoration.
        decode: whether a term needs the decoder's features or logits of the corrupted image.
        spacing: of the voxels along D, H, W, mm.
        seed: of the run.

    Raises:
        UsageError: a setting that leaves nothing to corrupt.
    """

    def __init__(self, config: RestorationConfig, decode: bool, spacing: tuple[float, float, float], seed: int) -> None:
        if not 0 < config.region.share <= 1:
            raise UsageError(f"model.restoration.region.share: {config.region.share} is not above 0 and at most 1")
        self.region = config.region
        self.ramp = config.ramp
        self.decode = decode
        self.seed = seed
        self.corruption = Corruption(config.corruption, spacing, seed)

    def __call__(self, network: Backbone, views: Views, progress: Progress) -> CorruptedView:
        """Corrupt the batch where the clean pass is uncertain, and look at it again."""
        batch = views.batch
        scores = score(views.uncertainty, batch.distance, _band_weight(self.region, progress.passed(self.ramp)))
        region = choose_region(scores, batch.distance, self.region.reach, self.region.share, batch.key, self.seed)
        corrupted = self.corruption(batch.image, region, batch.distance, batch.key)
        encoder = network.encode(corrupted.image)
        decoded = network.decode(encoder) if self.decode else None
        return CorruptedView(corrupted.mask, encoder, decoded, band_excess(region, batch.distance))


def _band_weight(config: RegionConfig, passed: float) -> float:
    """β: early entropy says little, the band leads; later the entropy does."""
    start, end = config.band
    return start + (end - start) * passed
