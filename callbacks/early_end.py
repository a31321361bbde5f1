"""Ending a trial of a sweep at a validation: all ranks after the same step, saved, so that it could go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from callbacks.checkpoints import ResumeCheckpoint

Judge: TypeAlias = Callable[[int, float], bool]
"""Told the number of the validation, from 1, and what it measured, says whether training is to end."""


class EndAtValidation(Callback):
    """Asks after each validation but the last whether the trial is to end.

    The first rank asks and tells the others: the judge may look at files that change meanwhile.

    Args:
        judge: is asked.
        metric: what the validation measured.
        every: steps between validations.

    Attributes:
        ended: whether the judge has ended the training.
    """

    def __init__(self, judge: Judge, metric: str, every: int) -> None:
        self.judge = judge
        self.metric = metric
        self.every = every
        self.ended = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask, and save this step where the answer is yes."""
        step = trainer.global_step
        if trainer.state.fn != "fit" or trainer.sanity_checking or step >= trainer.max_steps:
            return
        value = trainer.callback_metrics.get(self.metric)
        answer = trainer.is_global_zero and value is not None and self.judge(step // self.every, float(value))
        self.ended = bool(trainer.strategy.broadcast(torch.tensor(answer)))
        if self.ended:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ResumeCheckpoint):
                    callback.keep_this_step(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Leave the loop, as :class:`~callbacks.preemption.Preemption` does, and for its reasons.

        Raises:
            StopIteration: which is how a loop of Lightning's ends.
        """
        if self.ended:
            trainer.should_stop = True
            raise StopIteration
