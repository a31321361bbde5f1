"""Tiny runs, and processes that may be killed in them."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from callbacks.checkpoint_io import KillSafeCheckpointIO, latest
from callbacks.checkpoints import best_checkpoint, resume_checkpoint
from callbacks.metrics_file import MetricsFile, MetricsFileKeeper
from tests.callbacks.tiny import TinyModule

Fit = Callable[..., pl.Trainer]


@pytest.fixture
def fit() -> Fit:
    """Fit, or go on fitting, a tiny run in a folder."""

    def run(
        folder: Path,
        *,
        steps: int = 12,
        validate: int = 4,
        save: int = 3,
        log: int = 1,
        accumulate: int = 1,
        minutes: float | None = None,
        dice: Callable[[int], float] = lambda step: 0.1 * (step % 7),
        extra: list[Callback] | None = None,
        progress: bool = False,
    ) -> pl.Trainer:
        torch.set_num_threads(1)
        module = TinyModule(steps * accumulate, dice)
        trainer = pl.Trainer(
            default_root_dir=folder, accelerator="cpu", max_steps=steps, accumulate_grad_batches=accumulate,
            val_check_interval=validate * accumulate, check_val_every_n_epoch=None, num_sanity_val_steps=0,
            log_every_n_steps=log, enable_progress_bar=progress, enable_model_summary=False,
            use_distributed_sampler=False, logger=[MetricsFile(folder / "metrics.csv")],
            callbacks=[*(extra or []), MetricsFileKeeper(), resume_checkpoint(folder / "checkpoints", save, minutes),
                       best_checkpoint(folder / "checkpoints")],
            plugins=[KillSafeCheckpointIO()],
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*(does not have many workers|is not resumable|LeafSpec).*")
            trainer.fit(module, ckpt_path=latest(folder / "checkpoints"), weights_only=True)
        return trainer

    return run


@pytest.fixture
def in_child() -> Callable[[Callable[[], Any]], int]:
    """Run a function in a forked process (imports are paid already); returns its exit code, −9 where killed."""

    def run(work: Callable[[], Any]) -> int:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            try:
                work()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return run
