"""Ending in good order when a signal asks for it: all ranks after the same step, saved, with nothing done twice.

A handler only records the request. Lightning's own handlers save from inside the handler, where one rank may stand in
a convolution and the other in the backward pass, and then train on until they are killed; they are kept out here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger

from callbacks.checkpoints import ResumeCheckpoint
from callbacks.requests import Request, Signals
from datamodules.errors import Notice


class Preemption(Callback):
    """Stops training after the step in which a signal came, on all ranks together.

    At the end of each step the ranks agree on the gravest request. ``last.ckpt`` is then saved as at any other step,
    after the validation of that step where one is due; no other one is run, no other row is logged, so that the run
    goes on to the very same end.

    Args:
        signals: knows what this process was asked.

    Attributes:
        agreed: the request on which all ranks have stopped; 0 for none.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.agreed = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Keep Lightning's handlers out."""
        keep_handlers(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look after the signals from now on; stop before the first step where one came earlier."""
        self.signals.defer()
        self.agreed = agree(trainer, self.signals.requested())
        if self.agreed:
            self._say_preempting(trainer)
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree where a step is complete."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._agree_and_save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Agree after a validation, which may have taken long."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not self.agreed:
            self._agree_and_save(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Leave the loop.

        Here and not at the end of the step: ``should_stop`` makes Lightning validate and log a step that would
        otherwise not have been.

        Raises:
            StopIteration: which is how a loop of Lightning's ends.
        """
        if self.agreed:
            trainer.should_stop = True
            raise StopIteration

    def _agree_and_save(self, trainer: pl.Trainer) -> None:
        self.agreed = agree(trainer, self.signals.requested())
        if self.agreed and trainer.global_step < trainer.max_steps:  # the end saves itself
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ResumeCheckpoint):
                    callback.keep_this_step(trainer)
            self._say_preempting(trainer)

    def _say_preempting(self, trainer: pl.Trainer) -> None:
        if self.agreed == Request.PREEMPT and trainer.is_global_zero:
            mark_preempting(trainer)


class StopBetweenCases(Callback):
    """Stops the test loop before its next case when a signal asks for it; finished cases are kept.

    Ranks have different numbers of cases and meet at the end alone, hence one tells the others by a file.

    Args:
        signals: knows what this process was asked.
        folder: shared by all ranks.

    Attributes:
        agreed: the gravest request that came to any rank; 0 for none.
    """

    def __init__(self, signals: Signals, folder: Path) -> None:
        self.signals = signals
        self.file = folder / ".stop"
        self.agreed = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Keep Lightning's handlers out, and forget what a killed evaluation has left."""
        keep_handlers(trainer)
        if trainer.is_global_zero:
            self.file.unlink(missing_ok=True)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look after the signals from now on."""
        self.signals.defer()

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Leave the loop.

        Raises:
            StopIteration: which is how a loop of Lightning's ends.
        """
        if self.signals.requested():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.touch()
        if self.file.exists():
            raise StopIteration

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Agree; ``should_stop`` then says that cases are missing."""
        if stage == "test":
            self.agreed = agree(trainer, self.signals.requested())
            trainer.should_stop = bool(self.agreed)
            if trainer.is_global_zero:
                self.file.unlink(missing_ok=True)


def agree(trainer: pl.Trainer, request: int) -> int:
    """The gravest request of all ranks; a collective where there are several."""
    if trainer.world_size == 1:
        return request
    gravest = torch.tensor(request, device=trainer.strategy.root_device)
    dist.all_reduce(gravest, op=dist.ReduceOp.MAX)
    return int(gravest)


def keep_handlers(trainer: pl.Trainer) -> None:
    """Keep the handlers that are in place: Lightning would put its own in front of them just before its loop."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def mark_preempting(trainer: pl.Trainer) -> None:
    """Let W&B know that the run will come back; whatever goes wrong with it costs the run nothing."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            try:
                logger.experiment.mark_preempting()
            except Exception as error:
                rank_zero_warn(
                    f"W&B could not be told of the preemption ({error}); the run is saved all the same.",
                    category=Notice,
                )
