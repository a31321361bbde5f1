"""When a run saves: ``last.ckpt`` to continue from, ``best.ckpt`` by validation on the source.

Lightning's ``ModelCheckpoint`` numbers files that exist, forgets its best when the folder moves, and saves before
the validation of the same step, which a resumed run then skips. Two small callbacks, one purpose each, do without.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint

from callbacks.checkpoint_io import KillSafeCheckpointIO, Unwritten, latest, read_checkpoint
from datamodules.errors import AgreedError, UsageError


def resume_checkpoint(folder: Path, every_n_steps: int, every_minutes: float | None = None) -> ResumeCheckpoint:
    """The callback that keeps ``last.ckpt``."""
    return ResumeCheckpoint(folder / "last.ckpt", every_n_steps, every_minutes)


def best_checkpoint(folder: Path) -> BestCheckpoint:
    """The callback that keeps ``best.ckpt``, by the Dice on the source's validation cases."""
    return BestCheckpoint(folder / "best.ckpt", monitor="val/dice")


class ResumeCheckpoint(Checkpoint):
    """Saves everything a run needs to go on: every n steps or minutes, at accumulation boundaries, and at the end.

    Where the step is followed by a validation, the checkpoint comes after it, so that a resumed run neither
    repeats nor misses it.

    Args:
        path: the file, replaced each time.
        every_n_steps: optimiser steps between two checkpoints.
        every_minutes: minutes by the clock after which the next complete step is saved too; None for never. With
            several ranks the first one's clock counts, and it is asked at the steps that are logged: they bring all
            ranks together anyway.
    """

    def __init__(self, path: Path, every_n_steps: int, every_minutes: float | None = None) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self._saved_step = 0
        self._tried_at = 0.0
        self._timed_step = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the step that is on disk already."""
        self._saved_step = trainer.global_step
        self._tried_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where a step is complete and no validation follows it."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if self._time_is_up(trainer):
            self._timed_step = trainer.global_step
        if self._due(trainer) and not _validation_follows(trainer, batch_idx):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after the validation of a step at which a checkpoint is due."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._due(trainer):
            self._save(trainer)

    def keep_this_step(self, trainer: pl.Trainer) -> None:
        """Save the step that has just been made too, when its hooks come here: training is about to stop."""
        self._timed_step = trainer.global_step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end; a run that was stopped has none, and Lightning's counters would now say that it has.

        Raises:
            AgreedError: it could not be written.
        """
        if trainer.should_stop:
            return
        if trainer.global_step != self._saved_step and not self._save(trainer):
            raise AgreedError(
                f"{self.path}: training has ended, but its last checkpoint could not be written;"
                " free some space and give the same command again to repeat the steps since the one before."
            )

    def _due(self, trainer: pl.Trainer) -> bool:
        step = trainer.global_step
        return step != self._saved_step and (step % self.every_n_steps == 0 or step == self._timed_step)

    def _time_is_up(self, trainer: pl.Trainer) -> bool:
        """Whether the minutes have passed, on all ranks alike."""
        if self.every_minutes is None:
            return False
        up = time.monotonic() - self._tried_at >= 60 * self.every_minutes
        if trainer.world_size == 1:
            return up
        every: int = getattr(trainer, "log_every_n_steps", 0)
        return every > 0 and trainer.global_step % every == 0 and bool(trainer.strategy.broadcast(up))

    def _save(self, trainer: pl.Trainer) -> bool:
        self._tried_at = time.monotonic()
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

    Attributes:
        score: the metric of what stands at ``path``.
        step: its step.
        lost: score and step of better weights that could not be written; they are tried again at every validation
            and at the end.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        self.path = path
        self.monitor = monitor
        self.score: float | None = None
        self.step: int | None = None
        self.lost: list[Any] | None = None
        self._waiting = False
        self._unwritten: Unwritten | None = None  # on the rank that writes

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
        self._try_again(trainer)
        known = self.lost[0] if self.lost and self._waiting else self.score
        if known is not None and score <= known:
            return
        before = (self.score, self.step)
        # Before it is written: the checkpoint itself knows its score.
        self.score, self.step = score, trainer.global_step
        if self.lost and score > self.lost[0]:
            self.lost, self._waiting = None, False
        if not _save(trainer, self.path):
            self.score, self.step = before
            self.lost, self._waiting, self._unwritten = [score, trainer.global_step], True, _writer_failure(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Try once more to write what could not be written."""
        self._try_again(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that the best weights are lost; ``last.ckpt`` stands by now.

        Raises:
            AgreedError: they are.
        """
        said = self._said_of_the_lost()
        if said and not trainer.should_stop:  # a run that was stopped goes on, and may find better ones
            raise AgreedError(f"{self.path}: training has ended, but {said}.")

    def state_dict(self) -> dict[str, Any]:
        """The best score and its step, and of better weights that could not be written."""
        return {"score": self.score, "step": self.step, "lost": self.lost}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's best score."""
        self.score, self.step, self.lost = state_dict["score"], state_dict["step"], state_dict.get("lost")

    def _try_again(self, trainer: pl.Trainer) -> None:
        """Write better weights that could not be written, where this life still has them; all ranks agree on it."""
        if self.lost is None or not self._waiting:
            return
        writer, kept = trainer.strategy.checkpoint_io, self._unwritten
        written = (
            kept is not None
            and isinstance(writer, KillSafeCheckpointIO)
            and writer.write(kept.path, kept.step, kept.data)
        )
        if trainer.strategy.broadcast(written):
            self.score, self.step = self.lost
            self.lost, self._waiting, self._unwritten = None, False, None

    def _said_of_the_lost(self) -> str:
        if self.lost is None:
            return ""
        return said_of_the_lost(self.monitor, self.lost, self.step)


def said_of_the_lost(monitor: str, lost: list[Any], stands: int | None) -> str:
    """That the best weights could not be written, and the way out.

    Args:
        monitor: the metric.
        lost: their score and step.
        stands: the step of what stands in their place; None for nothing.
    """
    score, step = lost
    there = "nothing stands there" if stands is None else f"what stands there is of step {stands}"
    return (
        f"the best weights ({monitor} {score:.3f} at step {step}) could not be written and {there}; "
        "free some space, and evaluate the end of training with checkpoint=last or train again with --fresh"
    )


def lost_best(folder: Path) -> str:
    """What is to be said of a run whose best weights could not be written; an empty string where they stand."""
    last = latest(folder)
    if last is None:
        return ""
    lost = read_checkpoint(last, mmap=True).get("callbacks", {}).get("BestCheckpoint", {}).get("lost")
    best = latest(folder, "best")
    stands = None if best is None else int(read_checkpoint(best, mmap=True)["global_step"])
    # A later attempt may have succeeded after the last checkpoint was written.
    return "" if not lost or stands == lost[1] else said_of_the_lost("val/dice", lost, stands)


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
    return bool(trainer.strategy.broadcast(_writer_failure(trainer) is None))


def _writer_failure(trainer: pl.Trainer) -> Unwritten | None:
    writer = trainer.strategy.checkpoint_io
    return writer.failure if isinstance(writer, KillSafeCheckpointIO) else None
