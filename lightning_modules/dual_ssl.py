"""The dual self-supervised framework as a Lightning module.

A reconstruction from the abstract of *Generalizable Pancreas Segmentation via a Dual Self-Supervised Learning
Framework* (Li, Zhu, Chen, Qian; IEEE JBHI, arXiv 2505.07165): beside the segmentation loss, contrast guided by the
pancreas' spatial structure, and restoration of corrupted appearance in uncertain regions. All that the abstract
leaves open is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from datamodules.batch import PatchBatch, VolumeBatch
from datamodules.errors import UsageError
from lightning_modules.config import OPTIMIZERS, SCHEDULES, ModelConfig, Preprocessing
from lightning_modules.fusion import fuse
from lightning_modules.gradient_share import gradient_norms
from lightning_modules.inference import InferenceSettings, predict_probability
from lightning_modules.networks.backbone import Backbone, Features
from lightning_modules.networks.config import NETWORKS
from lightning_modules.networks.statistics import FeatureStatistics
from lightning_modules.passes import build_corrupted_pass
from lightning_modules.plain import from_plain, to_plain
from lightning_modules.pretraining import CANT_SEGMENT, pretrains
from lightning_modules.records import StepRecord, dice, mean_over_cases
from lightning_modules.restoration_settings import misfits
from lightning_modules.rivals_config import FEATURES
from lightning_modules.rivals_settings import misfits as rival_misfits
from lightning_modules.schedules import Progress
from lightning_modules.stored import VERSION_KEY, this_version
from lightning_modules.term_result import TermResult
from lightning_modules.terms import build_terms, finest_stride
from lightning_modules.views import Views

__all__ = [
    "DualSSLModule",
    "InferenceSettings",
    "Losses",
    "ModelConfig",
    "Preprocessing",
    "VolumePrediction",
]

VALIDATION = InferenceSettings(overlap=0.25)


class VolumePrediction(NamedTuple):
    """What a test step hands to the callbacks."""

    probability: Tensor
    """Float32 1×1×D×H×W in [0, 1] on the training grid, in main memory."""


class Losses(NamedTuple):
    """The losses of a batch."""

    total: Tensor
    """Scalar, with its graph."""
    weighted: dict[str, Tensor]
    """The summands of the total by term."""
    results: dict[str, TermResult]
    """What each term said."""


class DualSSLModule(pl.LightningModule):
    """Segments the pancreas; learns from segmentation, contrast and restoration.

    Without segmentation (``model.segmentation.weight: 0``) it is pretrained and can't segment: no validation, no
    prediction, and what no term can reach of the network stays frozen.

    Args:
        model: network, terms, optimiser (or the plain containers of a checkpoint).
        preprocessing: what images have gone through when they arrive here (or its plain containers).
        seed: of weights and of every draw.

    Raises:
        UsageError: settings that don't fit together.
    """

    def __init__(
        self,
        model: ModelConfig | Mapping[str, Any],
        preprocessing: Preprocessing | Mapping[str, Any],
        seed: int = 0,
    ) -> None:
        super().__init__()
        config = model if isinstance(model, ModelConfig) else from_plain(ModelConfig, model)
        if not isinstance(preprocessing, Preprocessing):
            preprocessing = from_plain(Preprocessing, preprocessing)
        self.config = config
        self.preprocessing = preprocessing
        self.save_hyperparameters(
            {"model": to_plain(config), "preprocessing": to_plain(preprocessing), "seed": seed}, logger=False
        )
        self.network: Backbone = NETWORKS.build(config.network, seed)
        _check_patch(preprocessing, self.network)
        for keys, sentence in (*misfits(config, preprocessing.patch_size), *rival_misfits(config)):
            raise UsageError(f"{keys[0]}: {sentence}")
        self.terms = nn.ModuleDict(build_terms(config, self.network, preprocessing.spacing, seed))
        self.corrupted_pass = build_corrupted_pass(config, self.network, preprocessing.spacing, seed)
        self._features: FeatureStatistics | None = FEATURES.build(config.features, seed)
        if self._features is not None:
            self.network.perturb_encoder(self._features)
        if pretrains(config):
            self.network.freeze_beyond(finest_stride(self.terms.values()))
        self.inference = InferenceSettings()
        self._memory_format = torch.contiguous_format
        self._record = StepRecord()
        self._validated: dict[str, float] = {}

    def use_channels_last(self) -> None:
        """Keep weights and images channels-last in memory: faster convolutions on most devices."""
        self._memory_format = torch.channels_last_3d
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of images in [0, 1], both B×1×D×H×W; D, H, W are multiples of the network's largest stride."""
        features: Features = self.network(image.contiguous(memory_format=self._memory_format))
        return features.logits

    def views(self, batch: PatchBatch, progress: Progress) -> Views:
        """The passes of one batch that the terms of the loss look at.

        Args:
            batch: augmented patches.
            progress: of the training; it sets how M is chosen.
        """
        batch = batch._replace(image=batch.image.contiguous(memory_format=self._memory_format))
        perturbation = self._features if self.training else None
        with nullcontext() if perturbation is None else perturbation.of(batch.key):
            if self.corrupted_pass is not None:
                views: Views = self.corrupted_pass(self.network, batch, progress)
            else:
                if self._fuses(batch):
                    batch = batch._replace(image=batch.image.detach().requires_grad_())
                views = Views(batch, clean=self.network(batch.image))
            if batch.second is not None and torch.is_grad_enabled():
                views.second = self._second_pass(views, batch.second)
        return views

    def _fuses(self, batch: PatchBatch) -> bool:
        return self.config.fusion == "saliency" and batch.second is not None and torch.is_grad_enabled()

    def _second_pass(self, views: Views, image: Tensor) -> Features:
        """The second view, as it is or fused with the first."""
        if self._fuses(views.batch):
            image = fuse(views.batch.image, image, views.clean.logits, views.batch.label)
        features: Features = self.network(image.contiguous(memory_format=self._memory_format))
        return features

    def losses(self, batch: PatchBatch, progress: Progress) -> Losses:
        """Every term of the loss of one batch.

        Args:
            batch: augmented patches.
            progress: of the training; it sets the weights of the terms.
        """
        views = self.views(batch, progress)
        results = {name: term(views) for name, term in self.terms.items()}
        weighted = {name: self.terms[name].weight(progress) * result.loss for name, result in results.items()}  # type: ignore[operator]  # ModuleDict forgets the class
        return Losses(torch.stack(list(weighted.values())).sum(), weighted, results)

    def training_step(self, batch: PatchBatch, batch_idx: int) -> Tensor:
        """One batch: its loss, and now and then a record of where it comes from."""
        losses = self.losses(batch, self.progress())
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set from elsewhere in Lightning
        if every > 0 and (self.trainer.global_step + 1) % every == 0:
            self._log_step(losses)
        return losses.total

    def on_train_start(self) -> None:
        """Let what follows the network start from its weights; a resumed run goes on from the checkpoint's own."""
        if self.corrupted_pass is not None and self.trainer.global_step == 0:
            self.corrupted_pass.choice.start(self.network)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step, and what follows the network with it: before any checkpoint of that step is written."""
        super().optimizer_step(*args, **kwargs)
        # A step that was skipped has no gradient left.
        moved = any(weight.grad is not None for weight in self.network.parameters())
        if self.corrupted_pass is not None and moved:
            self.corrupted_pass.choice.follow(self.network)

    def progress(self) -> Progress:
        """Where the attached trainer stands.

        Raises:
            UsageError: the trainer has no end.
        """
        steps = self.trainer.max_steps if self.trainer.max_steps > 0 else self.trainer.estimated_stepping_batches
        if not math.isfinite(steps) or steps <= 0:
            raise UsageError("trainer.max_steps: training has no end, but its schedules need one; give the steps")
        return Progress(self.trainer.global_step, int(steps))

    def _log_step(self, losses: Losses) -> None:
        """All ranks come here at the same steps: the norms and the record are collectives."""

        def mean(values: Tensor) -> Tensor:
            reduced = self.trainer.strategy.reduce(values, reduce_op="mean")
            assert isinstance(reduced, Tensor)
            return reduced

        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        norms = gradient_norms(
            losses.weighted,
            self.network.encoder_parameters(),
            mean,
            scale=1.0 if scaler is None else scaler.get_scale(),
        )
        values = {"loss/total": losses.total}
        for name, result in losses.results.items():
            values |= {f"loss/{name}": result.loss, f"grad_norm/{name}": norms[name], **result.log, **result.watch()}
        means = self._record.add(self.trainer.global_step, values, mean)
        self.log("loss/total", means.pop("loss/total"), on_step=True, on_epoch=False, prog_bar=True)
        means["lr"] = torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log_dict(means, on_step=True, on_epoch=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The configured optimiser, its rate scheduled by the step."""
        optimizer = OPTIMIZERS.build(self.config.optimizer, self)
        schedule = SCHEDULES.build(self.config.schedule, optimizer, self.progress().total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Sign a checkpoint with the version that writes it."""
        checkpoint[VERSION_KEY] = this_version()

    def predict_probability(self, image: Tensor, settings: InferenceSettings | None = None) -> Tensor:
        """Probability of pancreas at every voxel of a whole volume, float32 1×1×D×H×W in [0, 1].

        Args:
            image: 1×1×D×H×W on the training grid in [0, 1].
            settings: overlap and flips; by default :attr:`inference`.

        Raises:
            UsageError: the module is only pretrained.
        """
        if pretrains(self.config):
            raise UsageError(f"the model {CANT_SEGMENT}")
        return predict_probability(self, image, self.preprocessing.patch_size, settings or self.inference)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self._validated = {}

    def validation_step(self, batch: VolumeBatch, batch_idx: int) -> None:
        """Dice of one source case on the training grid; nothing where nothing is learned of segmentation."""
        if pretrains(self.config):
            return
        probability = self.predict_probability(batch.image, VALIDATION)
        self._validated[batch.case] = dice(probability > 0.5, batch.label)

    def on_validation_epoch_end(self) -> None:
        """The mean over the cases, once each, of all ranks."""
        if pretrains(self.config):
            return
        value = mean_over_cases(self._validated)
        # One equal value a rank: this reduction alters nothing, whatever the ranks' shares of the cases were. (A mean
        # would: of three equal numbers it may be off by a rounding.)
        self.log("val/dice", value, prog_bar=True, sync_dist=True, reduce_fx="max", batch_size=1)

    def test_step(self, batch: VolumeBatch, batch_idx: int) -> VolumePrediction:  # type: ignore[override]  # typed
        """Probability of one whole volume; the callbacks judge it."""
        return VolumePrediction(self.predict_probability(batch.image).cpu())


def _check_patch(preprocessing: Preprocessing, network: Backbone) -> None:
    stride, patch = network.largest_stride, preprocessing.patch_size
    if any(size < stride or size % stride for size in patch) or max(patch) == stride:
        raise UsageError(
            f"data.patch_size: {list(patch)} does not fit model.network, whose largest stride is {stride}; "
            f"take multiples of {stride}, at least one of them larger than it"
        )
