"""Steps whose loss or gradient is not finite: agreed on by all ranks, skipped, counted, and in a series explained.

One bad value in a gradient would end in every weight. A step is therefore taken only where the losses of its batches
are finite on every rank and its gradient is. A skipped step alters neither weights nor the optimiser's state nor the
average of the weights. It counts as a step all the same: learning rate, ramps and the stream of batches go on, so that
a run which is continued meets the same batches at the same steps.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from datamodules.atomic import atomic_file
from datamodules.batch import PatchBatch
from datamodules.errors import AgreedError, Notice
from lightning_modules.dual_ssl import DualSSLModule

ROOM_TO_SCALE_DOWN = 1.0
"""A gradient scaler above this may simply have scaled too high; at or below it the overflow is the model's own."""


class NonFiniteGuard(Callback):
    """Skips the steps that would spoil the weights, and stops a run that takes no others.

    With float16's gradient scaler an overflow belongs to the search for the scale: it is skipped and counted, but
    adds to the series only where the loss itself is not finite or the scale has no room left.

    Args:
        folder: where the batches of the step that stops the run are kept, ``step_<n>_rank_<r>.pt``.
        limit: skipped steps in a row that stop the run.

    Attributes:
        skipped: steps skipped since the run began.
        skipped_last: whether the last step was.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.skipped = 0
        self.skipped_last = False
        self._series = 0
        self._told = 0
        self._batches: list[PatchBatch] = []
        self._bad_loss: Tensor | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batches of this step."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._batches, self._bad_loss = [], None
        self._batches.append(batch)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Look at the loss of each batch; nobody waits for the device yet."""
        bad = ~torch.isfinite(loss.detach())
        self._bad_loss = bad if self._bad_loss is None else self._bad_loss | bad

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Drop the gradient where any rank's loss, or the gradient, is not finite.

        Raises:
            AgreedError: on all ranks, when the series is long enough.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        largest = get_total_norm([p.grad for p in parameters if p.grad is not None], norm_type=float("inf"))
        assert self._bad_loss is not None
        flags = torch.stack([self._bad_loss, ~torch.isfinite(largest).to(self._bad_loss.device)]).float()
        agreed = trainer.strategy.reduce(flags, reduce_op="max")
        assert isinstance(agreed, Tensor)
        bad_loss, bad_gradient = agreed.bool().tolist()
        self.skipped_last = bad_loss or bad_gradient
        if not self.skipped_last:
            self._series = 0
            return
        for parameter in parameters:
            parameter.grad = None
        self.skipped += 1
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if bad_loss or scaler is None or scaler.get_scale() <= ROOM_TO_SCALE_DOWN:
            self._series += 1
            self._tell(trainer.global_step + 1, "loss" if bad_loss else "gradient")
        if self._series >= self.limit:
            self._stop(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the count with the other values of a step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._batches, self._bad_loss = [], None
        every: int = getattr(trainer, "log_every_n_steps", 0)
        if every > 0 and trainer.global_step % every == 0:
            pl_module.log("skipped", float(self.skipped), on_step=True, on_epoch=False)

    def state_dict(self) -> dict[str, Any]:
        """The counts, so that a run which is continued counts on."""
        return {"skipped": self.skipped, "skipped_last": self.skipped_last, "series": self._series}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's counts."""
        self.skipped, self.skipped_last = state_dict["skipped"], state_dict["skipped_last"]
        self._series = state_dict["series"]

    def _tell(self, step: int, what: str) -> None:
        # The first, then ever more rarely: thousands of lines would hide all else.
        self._told += 1
        if self._told & (self._told - 1) == 0:
            rank_zero_warn(
                f"step {step}: the {what} is not finite, so the step is skipped ({self.skipped} skipped so far).",
                category=Notice,
            )

    def _stop(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the reason on every rank, keep the batches, and end the run on all ranks with the same words."""
        step = trainer.global_step + 1
        finding = diagnose(trainer, pl_module, self._batches)
        path = self.folder / f"step_{step}_rank_{trainer.global_rank}.pt"
        content = {"step": step, "rank": trainer.global_rank, "precision": str(trainer.precision), **finding.plain()}
        kept = f"the batches are kept in {self.folder}"
        try:
            _save(path, content)
        except OSError as error:
            kept = f"the batches could not be kept in {self.folder} ({error})"
        # Those of all ranks stand on disk when this comes back, before any of them ends.
        told = _gather((trainer.global_rank, finding.blame(), kept))
        blames = [(rank, blame) for rank, blame, _ in told if blame is not None]
        gravest = min((order for _, (order, _) in blames), default=0)
        ranks = f" on rank {{}} of {len(told)}" if len(told) > 1 else ""
        reasons = [text + ranks.format(rank) for rank, (order, text) in blames if order == gravest]
        kept = next((words for _, _, words in told if "could not" in words), kept)
        raise AgreedError(
            f"step {step}: loss or gradient was not finite in {self._series} steps in a row"
            f" (trainer.nonfinite_limit, precision {trainer.precision}):"
            f" {'; '.join(reasons) or 'computed again from the same batch they are finite, so suspect the device'};"
            f" {kept}; look at the cases, lower model.optimizer.lr, or take trainer.precision=32."
        )


class FiniteAverage(EMAWeightAveraging):
    """Lightning's moving average of the weights, which a skipped step leaves as it is.

    Args:
        decay: of the average.
        guard: knows which steps were skipped.
    """

    def __init__(self, decay: float, guard: NonFiniteGuard) -> None:
        super().__init__(decay=decay)
        self._guard = guard

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the weights have moved."""
        return not self._guard.skipped_last and super().should_update(step_idx, epoch_idx)


@dataclass(frozen=True)
class Finding:
    """What one rank found in the batches of a step.

    Attributes:
        batches: as the module saw them.
        losses: of each batch, the value of each term before it is weighted.
        gradients: of each batch, whether the gradient of each term is finite.
        weights: names of weights that are not finite themselves.
    """

    batches: Sequence[PatchBatch]
    losses: Sequence[dict[str, float]]
    gradients: Sequence[dict[str, bool]]
    weights: Sequence[str]

    def blame(self) -> tuple[int, str] | None:
        """The gravest reason, its order (0 explains all the others) and the words for it; None where all is well."""
        if self.weights:
            return 0, f"the weights {self.weights[0]} are not finite before the step"
        for batch in self.batches:
            finite = torch.isfinite(batch.image).flatten(1).all(1).tolist()
            if broken := [case for case, good in zip(batch.case, finite, strict=True) if not good]:
                return 1, f"the image of {_cases(broken)} is not finite"
        for batch, losses in zip(self.batches, self.losses, strict=True):
            if terms := [f"{name} is {value}" for name, value in losses.items() if not _is_finite(value)]:
                return 2, f"the loss {' and '.join(terms)} for {_cases(batch.case)}"
        for batch, gradients in zip(self.batches, self.gradients, strict=True):
            if names := [name for name, good in gradients.items() if not good]:
                return 3, f"the gradient of {' and '.join(names)} is not finite for {_cases(batch.case)}"
        return None

    def plain(self) -> dict[str, Any]:
        """Plain containers and tensors in main memory."""
        batches = [
            {name: v.detach().cpu().clone() if isinstance(v, Tensor) else v for name, v in batch._asdict().items()}
            for batch in self.batches
        ]
        return {"batches": batches, "losses": list(self.losses), "gradients_finite": list(self.gradients)}


def diagnose(trainer: pl.Trainer, module: pl.LightningModule, batches: Sequence[PatchBatch]) -> Finding:
    """Compute the terms of the loss of a step's batches once more, and the gradient of each one for itself.

    A collective: the contrast of several ranks gathers their samples. Neither weights nor gradients are altered, and
    all that is random is drawn again as it was.
    """
    assert isinstance(module, DualSSLModule)
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    scale = 1.0 if scaler is None else scaler.get_scale()
    parameters = [p for p in module.parameters() if p.requires_grad]
    losses, gradients = [], []
    for batch in batches:
        with trainer.precision_plugin.forward_context():
            computed = module.losses(batch, module.progress())
        losses.append({name: float(result.loss.detach()) for name, result in computed.results.items()})
        finite = {}
        for name, loss in computed.weighted.items():
            found = torch.autograd.grad(loss * scale, parameters, retain_graph=True, allow_unused=True)
            finite[name] = all(bool(torch.isfinite(g).all()) for g in found if g is not None)
        gradients.append(finite)
    weights = [name for name, weight in module.named_parameters() if not torch.isfinite(weight).all()]
    return Finding(batches, losses, gradients, weights)


def _save(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_file(path, "wb") as file:
        file.write(buffer.getbuffer())


def _gather(own: tuple[int, tuple[int, str] | None, str]) -> list[tuple[int, tuple[int, str] | None, str]]:
    """What every rank says, in the order of the ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return [own]
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, own)
    return told


def _cases(cases: Sequence[str]) -> str:
    return f"case{'s' if len(cases) > 1 else ''} {', '.join(dict.fromkeys(cases))}"


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")
