"""The terms of ``L = L_seg + λc(t)·L_con + λr(t)·L_res``: each one an object, built only if it has a weight."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from datamodules.errors import UsageError
from lightning_modules.config import ContrastiveConfig, ModelConfig, RestorationConfig
from lightning_modules.contrastive import ContrastiveTerm
from lightning_modules.losses.restoration import restoration_loss, structural_loss
from lightning_modules.losses.segmentation import at_strides, cross_entropy_loss, deep_segmentation_loss
from lightning_modules.networks.backbone import Backbone, Features
from lightning_modules.pretraining import misfits
from lightning_modules.regions.candidates import region_shares
from lightning_modules.restoration_decoder import RestorationDecoder, RestorationHead
from lightning_modules.rival_terms import Consistency, Skeleton
from lightning_modules.schedules import Progress
from lightning_modules.term_result import TermResult
from lightning_modules.views import CorruptedView, Views


class Segmentation(nn.Module):
    """L_seg of the clean image, averaged with those of the corrupted one, where that is asked for, and a second view.

    Args:
        corrupted: whether the organ must also be found where its appearance is gone.
        weight: of the term, all along.
        cross_entropy: above 0, the loss of the corrupted image is the cross-entropy alone, times this.
    """

    def __init__(self, corrupted: bool, weight: float = 1.0, cross_entropy: float = 0.0) -> None:
        super().__init__()
        self.corrupted = corrupted
        self.cross_entropy = cross_entropy
        self._weight = weight

    def weight(self, progress: Progress) -> float:
        """Its weight, always."""
        return self._weight

    def forward(self, views: Views) -> TermResult:
        """Soft Dice and cross-entropy; a single pass's corrupted samples count 0 where they need not be segmented."""
        label, corrupted = views.batch.label, views.corrupted
        if corrupted is not None and corrupted.samples is not None:
            losses = [self._of_one_pass(views.clean, label, corrupted.samples)]
        else:
            losses = [deep_segmentation_loss(views.clean.logits, views.clean.deep, label)]
        if self.corrupted and corrupted is not None and corrupted.decoded is not None:
            losses.append(self._of_corrupted(corrupted.decoded, label))
        if views.second is not None:
            losses.append(deep_segmentation_loss(views.second.logits, views.second.deep, label))
        return TermResult(sum(losses[1:], losses[0]) / len(losses), {})

    def _of_one_pass(self, found: Features, label: Tensor, samples: list[int]) -> Tensor:
        if self.corrupted and self.cross_entropy == 0:
            return deep_segmentation_loss(found.logits, found.deep, label)
        corrupted = torch.tensor([i in samples for i in range(len(label))], device=label.device)
        loss = deep_segmentation_loss(found.logits, found.deep, label, ~corrupted)
        return loss + self._of_corrupted(found, label, corrupted) if self.corrupted else loss

    def _of_corrupted(self, found: Features, label: Tensor, counted: Tensor | None = None) -> Tensor:
        if self.cross_entropy == 0:
            return deep_segmentation_loss(found.logits, found.deep, label, counted)
        entropy = partial(cross_entropy_loss, counted=counted)
        return self.cross_entropy * at_strides(entropy, found.logits, found.deep, label)


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

    @property
    def decoder_stride(self) -> int:
        """Stride of the decoder's features that it reads."""
        return self.config.stride

    def weight(self, progress: Progress) -> float:
        """λc(t)."""
        return self.config.weight * progress.ramp(self.config.ramp) * progress.fade(self.config.fade)

    def forward(self, views: Views) -> TermResult:
        """Contrast the views; records the fill of each region, and how the embedding fares."""
        features = [views.clean.decoder[self.config.stride]]
        if self.config.views == "both" and views.corrupted is not None and views.corrupted.decoded is not None:
            features.append(views.corrupted.decoded.decoder[self.config.stride])
        result = self.term(features, views.batch, views.uncertainty)
        log = {f"fill/{region}": share for region, share in result.fill.items()}
        log |= {f"contrastive/{part}": value for part, value in result.parts.items()}
        return TermResult(result.loss, log, result.watch)


class Restoration(nn.Module):
    """L_res: the image as it was is restored from features of the corrupted one.

    By ``decoder: thin`` from the encoder's features, in a decoder of its own; by ``shared`` from the finest features
    of the segmentation decoder, which then learns restoration too. With ``detach_encoder`` those features are taken
    without their gradient: L_res then trains the thin decoder, or the shared one's head, and nothing else.

    In a single pass the samples that were left as they are have nothing to restore and count 0: at equal weights the
    term pulls about half as much as in two passes.

    Args:
        config: of the term.
        network: the backbone whose encoder is shared.
        seed: of the run.
    """

    def __init__(self, config: RestorationConfig, network: Backbone, seed: int) -> None:
        super().__init__()
        self.config = config
        self.decoder: RestorationDecoder | RestorationHead
        if config.decoder == "shared":
            self.decoder = RestorationHead(network.decoder_channels[1], seed)
        else:
            self.decoder = RestorationDecoder(network.encoder_channels, config.channels, seed, config.skip)

    @property
    def decoder_stride(self) -> int | None:
        """1, of the shared decoder; None where it reads the encoder alone."""
        return 1 if self.config.decoder == "shared" else None

    def weight(self, progress: Progress) -> float:
        """λr(t)."""
        return self.config.weight * progress.ramp(self.config.ramp) * progress.fade(self.config.fade)

    def restore(self, views: Views) -> Tensor:
        """The restored image, B×1×D×H×W."""
        restored: Tensor = self.decoder(self._features(views))
        return restored

    def forward(self, views: Views) -> TermResult:
        """Restore; records where M lies and how much of the patch was corrupted."""
        corrupted = _corrupted(views)
        features, target, mask = self._features(views), views.batch.image, corrupted.mask
        samples = corrupted.samples
        if samples is not None:
            # Never none at all, for DDP waits for every weight's gradient; such a sample counts nothing.
            chosen = samples or [0]
            features = {stride: _pick(values, chosen) for stride, values in features.items()}
            target, mask = _pick(target, chosen), _pick(mask, chosen)
        restored = self.decoder(features)
        losses = restoration_loss(restored, target, mask, self.config.beta, self.config.rest)
        if self.config.ssim > 0:
            losses = losses + self.config.ssim * structural_loss(restored, target)
        loss = losses.mean() if samples is None else losses.sum() * bool(samples) / len(views.batch.image)

        def watch() -> dict[str, Tensor]:
            shares = region_shares(corrupted.region, views.batch.distance)
            log = {f"region/{name}": share for name, share in shares.items()}
            return log | {"region/corrupted": corrupted.mask.float().mean()}

        return TermResult(loss, {}, watch)

    def _features(self, views: Views) -> dict[int, Tensor]:
        """What the decoder starts from, by stride."""
        corrupted = _corrupted(views)
        features = corrupted.encoder
        if self.config.decoder == "shared":
            features = (views.clean if corrupted.decoded is None else corrupted.decoded).decoder
        wanted = {stride: features[stride] for stride in self.decoder.strides}
        if self.config.detach_encoder:
            return {stride: values.detach() for stride, values in wanted.items()}
        return wanted


def _pick(values: Tensor, samples: list[int]) -> Tensor:
    """Some samples of a batch, their layout in memory kept; a single one without a copy."""
    parts = [values[sample : sample + 1] for sample in samples]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _corrupted(views: Views) -> CorruptedView:
    if views.corrupted is None:
        raise AssertionError("restoration was built without a corrupted pass")
    return views.corrupted


Term = Segmentation | Contrast | Restoration | Consistency | Skeleton


def build_terms(
    config: ModelConfig, network: Backbone, spacing: tuple[float, float, float], seed: int
) -> dict[str, Term]:
    """The terms with a weight, by name.

    Raises:
        UsageError: a setting with which a term can't work.
    """
    for name in ("segmentation", "contrastive", "restoration", "consistency", "skeleton"):
        weight = getattr(config, name).weight
        if weight < 0:
            raise UsageError(f"model.{name}.weight: {weight} is below 0; 0 switches the term off")
    for key, sentence in misfits(config):
        raise UsageError(f"{key}: {sentence}")
    terms: dict[str, Term] = {}
    if config.segmentation.weight > 0:
        terms["segmentation"] = Segmentation(
            config.restoration.weight > 0 and config.restoration.segment_corrupted,
            config.segmentation.weight,
            config.restoration.cross_entropy,
        )
    if config.contrastive.weight > 0:
        terms["contrastive"] = Contrast(config.contrastive, network, spacing, seed)
    if config.restoration.weight > 0:
        terms["restoration"] = Restoration(config.restoration, network, seed)
    if config.consistency.weight > 0:
        terms["consistency"] = Consistency(config.consistency)
    if config.skeleton.weight > 0:
        terms["skeleton"] = Skeleton(config.skeleton, network, spacing, seed)
    return terms


def finest_stride(terms: Iterable[nn.Module]) -> int | None:
    """Stride of the finest features of the decoder that terms other than segmentation read; None where they read none.

    Args:
        terms: contrast, restoration, or both.
    """
    strides = [term.decoder_stride for term in terms if isinstance(term, Contrast | Restoration)]
    return min((stride for stride in strides if stride is not None), default=None)
