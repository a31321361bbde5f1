"""The terms of the loss that rival methods have beside segmentation; each built only if it has a weight."""

from __future__ import annotations

from torch import nn

from datamodules.errors import UsageError
from lightning_modules.losses.consistency import consistency_loss
from lightning_modules.networks.backbone import Backbone
from lightning_modules.rivals_config import ConsistencyConfig, SkeletonConfig
from lightning_modules.schedules import Progress
from lightning_modules.skeleton_contrast import SkeletonContrast
from lightning_modules.term_result import TermResult
from lightning_modules.views import Views


class Consistency(nn.Module):
    """The two views of a patch are segmented alike; both predictions are pulled.

    Args:
        config: of the term.
    """

    def __init__(self, config: ConsistencyConfig) -> None:
        super().__init__()
        self.config = config

    def weight(self, progress: Progress) -> float:
        """Its weight, ramped."""
        return self.config.weight * progress.ramp(self.config.ramp)

    def forward(self, views: Views) -> TermResult:
        """Compare the views.

        Raises:
            UsageError: there is one view alone.
        """
        if views.second is None:
            raise UsageError("model.consistency.weight: needs batches of two views; set data.augmentation.views=2")
        loss = consistency_loss(views.clean.logits, views.second.logits, self.config.measure)
        return TermResult(loss, {})


class Skeleton(nn.Module):
    """The contrast of the pancreas' skeleton with the background.

    Args:
        config: of the term.
        network: the backbone whose encoder's features are contrasted.
        spacing: of the voxels along D, H, W, mm.
        seed: of the run.
    """

    def __init__(
        self, config: SkeletonConfig, network: Backbone, spacing: tuple[float, float, float], seed: int
    ) -> None:
        super().__init__()
        self.config = config
        self.term = SkeletonContrast(config, network.encoder_channels[config.stride], spacing, seed)

    def weight(self, progress: Progress) -> float:
        """Its weight, ramped."""
        return self.config.weight * progress.ramp(self.config.ramp)

    def forward(self, views: Views) -> TermResult:
        """Contrast the clean pass."""
        loss, fill = self.term(views.clean.encoder[self.config.stride], views.batch.label, views.batch.key)
        return TermResult(loss, {"fill/skeleton": fill})
