"""A run small enough to be killed and continued many times: a linear model, batches from their position alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


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


def kill_now(*_: Any, **__: Any) -> None:
    """End this process as the kernel's out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)
