"""When a run saves: ``last.ckpt`` to continue from, ``best.ckpt`` by validation on the source.

Lightning's ``ModelCheckpoint`` numbers files that exist, forgets its best when the folder moves, and saves before
the validation of the same step, which a resumed run then skips. Two small callbacks, one purpose each, do without.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint

from callbacks.checkpoint_io import KillSafeCheckpointIO
from datamodules.errors import UsageError


def resume_checkpoint(folder: Path, every_n_steps: int) -> ResumeCheckpoint:
    """The callback that keeps ``last.ckpt``."""
    return ResumeCheckpoint(folder / "last.ckpt", every_n_steps)


def best_checkpoint(folder: Path) -> BestCheckpoint:
    """The callback that keeps ``best.ckpt``, by the Dice on the source's validation cases."""
    return BestCheckpoint(folder / "best.ckpt", monitor="val/dice")


class ResumeCheckpoint(Checkpoint):
    """Saves everything a run needs to go on: every n steps, at accumulation boundaries, and at the end.

    Where the step is followed by a validation, the checkpoint comes after it, so that a resumed run neither
    repeats nor misses it.

    Args:
        path: the file, replaced each time.
        every_n_steps: optimiser steps between two checkpoints.
    """

    def __init__(self, path: Path, every_n_steps: int) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
        self._saved_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the step that is on disk already."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where a step is complete and no validation follows it."""
        boundary = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if boundary and self._due(trainer) and not _validation_follows(trainer, batch_idx):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after the validation of a step at which a checkpoint is due."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._due(trainer):
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end.

        Raises:
            UsageError: it could not be written.
        """
        if trainer.global_step != self._saved_step and not self._save(trainer):
            raise UsageError(
                f"{self.path}: training has ended, but its last checkpoint could not be written;"
                " free some space and give the same command again to repeat the steps since the one before."
            )

    def _due(self, trainer: pl.Trainer) -> bool:
        step = trainer.global_step
        return step != self._saved_step and step % self.every_n_steps == 0

    def _save(self, trainer: pl.Trainer) -> bool:
        saved = _save(trainer, self.path)
        if saved:
            self._saved_step = trainer.global_step
        return saved


class BestCheckpoint(Callback):
    """Saves the run whenever a validation metric is higher than ever before.

    A plain callback, not one of Lightning's checkpoints: those run last, hence ``last.ckpt`` knows the best score.

    Args:
        path: the file, replaced each time.
        monitor: the metric; higher is better.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        self.path = path
        self.monitor = monitor
        self.score: float | None = None
        self.step: int | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if the metric has risen; a NaN counts as the lowest score there is.

        Raises:
            UsageError: the metric has not been logged.
        """
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            raise UsageError(f"{self.path.name}: the module does not log {self.monitor!r}, by which it is chosen.")
        # One rank's word for all: saving is collective.
        score = float(trainer.strategy.broadcast(float(trainer.callback_metrics[self.monitor])))
        score = -math.inf if math.isnan(score) else score
        if self.score is not None and score <= self.score:
            return
        before = (self.score, self.step)
        self.score, self.step = score, trainer.global_step
        if not _save(trainer, self.path):
            self.score, self.step = before

    def state_dict(self) -> dict[str, Any]:
        """The best score and its step."""
        return {"score": self.score, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's best score."""
        self.score, self.step = state_dict["score"], state_dict["step"]


def _validation_follows(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether Lightning validates right after this batch."""
    batches = trainer.num_val_batches
    if not trainer.enable_validation or not (sum(batches) if isinstance(batches, list) else batches):
        return False
    interval = trainer.val_check_batch
    index = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    return trainer.should_stop or (interval is not None and (index + 1) % interval == 0)


def _save(trainer: pl.Trainer, path: Path) -> bool:
    """Save on all ranks; whether it stands on disk, on all ranks alike."""
    trainer.save_checkpoint(path)
    writer = trainer.strategy.checkpoint_io
    written = not (isinstance(writer, KillSafeCheckpointIO) and writer.failure)
    return bool(trainer.strategy.broadcast(written))
