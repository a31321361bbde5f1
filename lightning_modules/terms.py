"""The terms of ``L = L_seg + λc(t)·L_con + λr(t)·L_res``: each one an object, built only if it has a weight."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from datamodules.errors import UsageError
from lightning_modules.config import ContrastiveConfig, ModelConfig, RestorationConfig
from lightning_modules.contrastive import ContrastiveTerm
from lightning_modules.losses.restoration import restoration_loss
from lightning_modules.losses.segmentation import deep_segmentation_loss
from lightning_modules.networks.backbone import Backbone
from lightning_modules.restoration_decoder import RestorationDecoder
from lightning_modules.schedules import Progress
from lightning_modules.views import Views


class TermResult(NamedTuple):
    """What a term says of a batch."""

    loss: Tensor
    """Scalar, not yet weighted; its mean over the ranks is the loss of the global batch."""
    log: dict[str, Tensor]
    """Further scalars to be recorded, by name."""


class Segmentation(nn.Module):
    """L_seg of the clean image, averaged with that of the corrupted one where that is asked for.

    Args:
        corrupted: whether the organ must also be found where its appearance is gone.
    """

    def __init__(self, corrupted: bool) -> None:
        super().__init__()
        self.corrupted = corrupted

    def weight(self, progress: Progress) -> float:
        """1, always."""
        return 1.0

    def forward(self, views: Views) -> TermResult:
        """Soft Dice and cross-entropy."""
        passes = [views.clean]
        if self.corrupted and views.corrupted is not None and views.corrupted.decoded is not None:
            passes.append(views.corrupted.decoded)
        losses = [deep_segmentation_loss(p.logits, p.deep, views.batch.label) for p in passes]
        return TermResult(sum(losses[1:], losses[0]) / len(losses), {})


class Contrast(nn.Module):
    """L_con on the decoder's features of the clean view and, where there is one, of the corrupted view.

    Args:
        config: of the term.
        network: the backbone whose features are contrasted.
        spacing: of the voxels along D, H, W, mm.
        seed: of the run.

    Raises:
        UsageError: the network has no features at that stride.
    """

    def __init__(
        self, config: ContrastiveConfig, network: Backbone, spacing: tuple[float, float, float], seed: int
    ) -> None:
        super().__init__()
        channels = network.decoder_channels.get(config.stride)
        if channels is None:
            strides = ", ".join(str(stride) for stride in sorted(network.decoder_channels))
            raise UsageError(
                f"model.contrastive.stride: the decoder of model.network has no features at stride "
                f"{config.stride}; it has them at {strides}"
            )
        self.config = config
        self.term = ContrastiveTerm(config, channels, spacing, seed)

    def weight(self, progress: Progress) -> float:
        """λc(t)."""
        return self.config.weight * progress.ramp(self.config.ramp)

    def forward(self, views: Views) -> TermResult:
        """Contrast the views; records the fill of each region."""
        features = [views.clean.decoder[self.config.stride]]
        if self.config.views == "both" and views.corrupted is not None and views.corrupted.decoded is not None:
            features.append(views.corrupted.decoded.decoder[self.config.stride])
        result = self.term(features, views.batch, views.uncertainty)
        return TermResult(result.loss, {f"fill/{region}": share for region, share in result.fill.items()})


class Restoration(nn.Module):
    """L_res: the thin decoder restores, from the encoder's features of the corrupted image, the image as it was.

    Args:
        config: of the term.
        network: the backbone whose encoder is shared.
        seed: of the run.
    """

    def __init__(self, config: RestorationConfig, network: Backbone, seed: int) -> None:
        super().__init__()
        self.config = config
        self.decoder = RestorationDecoder(network.encoder_channels, config.channels, seed)

    def weight(self, progress: Progress) -> float:
        """λr(t)."""
        return self.config.weight * progress.ramp(self.config.ramp)

    def forward(self, views: Views) -> TermResult:
        """Restore; records how much of M lies beyond the band and how much of the patch was corrupted."""
        corrupted = views.corrupted
        if corrupted is None:
            raise AssertionError("restoration was built without a corrupted pass")
        restored = self.decoder(corrupted.encoder)
        loss = restoration_loss(restored, views.batch.image, corrupted.mask, self.config.beta, self.config.rest)
        log = {"region/band_excess": corrupted.band_excess, "region/corrupted": corrupted.mask.float().mean()}
        return TermResult(loss, log)


def build_terms(
    config: ModelConfig, network: Backbone, spacing: tuple[float, float, float], seed: int
) -> dict[str, Segmentation | Contrast | Restoration]:
    """The terms with a weight, by name.

    Raises:
        UsageError: a setting with which a term can't work.
    """
    for name, weight in (("contrastive", config.contrastive.weight), ("restoration", config.restoration.weight)):
        if weight < 0:
            raise UsageError(f"model.{name}.weight: {weight} is below 0; 0 switches the term off")
    terms: dict[str, Segmentation | Contrast | Restoration] = {
        "segmentation": Segmentation(config.restoration.segment_corrupted)
    }
    if config.contrastive.weight > 0:
        terms["contrastive"] = Contrast(config.contrastive, network, spacing, seed)
    if config.restoration.weight > 0:
        terms["restoration"] = Restoration(config.restoration, network, seed)
    return terms
