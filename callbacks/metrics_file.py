"""``metrics.csv``: what a run measured, every step once, whatever was killed and continued in between.

One row a step; ``step`` is the number of finished optimiser steps, the same as in a checkpoint. Values of training
and validation of one step share its row; a cell is empty where nothing was measured.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch import Tensor

from datamodules.atomic import atomic_file
from datamodules.errors import UsageError

FLUSH_SECONDS = 30.0
"""Longest time that rows wait in memory, unless writing them takes more than a fiftieth of it."""


class MetricsFile(Logger):
    """Lightning's logger that keeps ``metrics.csv``; the file is replaced whole and never half-written.

    Give :class:`MetricsFileKeeper` to the same Trainer, so that the file follows checkpoints.

    Args:
        path: the file; rows that it holds already are kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: dict[int, dict[str, float]] = {}
        self._columns: dict[str, None] = {}
        self._changed = False
        self._flushed_at = time.monotonic()
        self._flush_took = 0.0
        if path.is_file():
            for row in read_metrics(path):
                self._add(int(row.pop("step")), row)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """There is one version of the file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run folder's ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add values to the row of a step.

        Args:
            metrics: values by name.
            step: Lightning's index of the step, from 0: the row says one more, the steps that are then finished.
        """
        # There is one long epoch: Lightning's own column of epochs says nothing.
        self._add((step or 0) + 1, {name: float(value) for name, value in metrics.items() if name != "epoch"})
        self._changed = True

    def resume_at(self, step: int) -> None:
        """Drop the rows of steps that a run continued from ``step`` takes again."""
        kept = {s: row for s, row in self._rows.items() if s <= step}
        if len(kept) != len(self._rows):
            self._rows, self._changed = kept, True
            self.flush()

    @rank_zero_only
    def save(self) -> None:
        """Write the file where the last time is long enough ago (Lightning calls this after every row)."""
        if time.monotonic() - self._flushed_at >= max(FLUSH_SECONDS, 50 * self._flush_took):
            self.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file at the run's end, good or bad."""
        self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Write the file now, if a row is new."""
        if not self._changed:
            return
        start = time.monotonic()
        with atomic_file(self.path) as file:
            writer = csv.DictWriter(file, ["step", *self._columns], lineterminator="\n")
            writer.writeheader()
            writer.writerows({"step": step, **self._rows[step]} for step in sorted(self._rows))
        self._changed = False
        self._flushed_at = time.monotonic()
        self._flush_took = self._flushed_at - start

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        self._rows.setdefault(step, {}).update(values)
        self._columns.update(dict.fromkeys(values))


class MetricsFileKeeper(Callback):
    """Keeps ``metrics.csv`` in step with checkpoints: no row is lost or doubled where a run is continued."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what an earlier life of this run measured after its last checkpoint."""
        for file in _files(trainer):
            file.resume_at(trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the row of a step before a checkpoint of that step can be written.

        Lightning logs the row only after this hook, too late for a run that is continued from that checkpoint.
        """
        step = trainer.global_step
        boundary = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        results = trainer._results
        if not boundary or results is None or not _logs_at(trainer, step):
            return
        row = {
            name: float(value.item() if isinstance(value, Tensor) else value)
            for name, value in results.metrics(on_step=True)["log"].items()
        }
        for file in _files(trainer):
            file.log_metrics(row, step - 1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show each validation at once."""
        for file in _files(trainer):
            file.flush()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write all rows up to a checkpoint before the checkpoint itself."""
        for file in _files(trainer):
            file.flush()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.csv`` in the order of steps: ``step`` and what was measured then.

    Raises:
        UsageError: a row has no step, or a value is not a number.
    """
    rows = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                step = float(row.pop("step"))
                rows.append({"step": step} | {name: float(value) for name, value in row.items() if value != ""})
            except (KeyError, TypeError, ValueError) as error:
                raise UsageError(
                    f"{path}, line {number}: not a row of metrics ({error}); mend or remove it."
                ) from error
    return rows


def _files(trainer: pl.Trainer) -> list[MetricsFile]:
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]


def _logs_at(trainer: pl.Trainer, step: int) -> bool:
    every: int = getattr(trainer, "log_every_n_steps", 0)
    return trainer.should_stop or (every > 0 and step % every == 0)
