"""A run small enough to be killed and continued many times: a linear model, batches from their position alone."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from callbacks.checkpoint_io import KillSafeCheckpointIO, latest
from callbacks.checkpoints import best_checkpoint, resume_checkpoint
from callbacks.metrics_file import MetricsFile, MetricsFileKeeper


class Batches(Dataset[Tensor]):
    """Batch number ``position`` is drawn from its position alone."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> Tensor:
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(position))


class FromHere(Sampler[int]):
    """Positions from the first batch that is not finished."""

    def __init__(self, module: pl.LightningModule, count: int) -> None:
        self.module, self.count = module, count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.module.trainer.fit_loop.total_batch_idx + 1, self.count))

    def __len__(self) -> int:
        return self.count


class TinyModule(pl.LightningModule):
    """Learns nothing of use; logs as the real one does."""

    def __init__(self, batches: int, dice: Callable[[int], float]) -> None:
        super().__init__()
        self.batches, self.dice = batches, dice
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).square().mean()
        self.log("loss/total", loss)
        if self.trainer.global_step % 3 == 0:
            self.log("fill/near", 0.5)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/dice", self.dice(self.trainer.global_step), batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.05)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(Batches(self.batches), batch_size=None, sampler=FromHere(self, self.batches))

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(Batches(2), batch_size=None)


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


def kill_now(*_: Any, **__: Any) -> None:
    """End this process as the kernel's out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)
