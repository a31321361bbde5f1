"""A round: steps of Pansite's own fit, with all that belongs to one: loader, augmentation, callbacks, bookkeeping."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Checkpoint
from served import answer, arguments, asked, ready

from datamodules.single_source import SingleSourceDataModule
from experiments import training
from experiments.configuration import load_experiment
from experiments.run_folder import RunFolder

told = arguments()
torch.set_num_threads(told["threads"])


class Rounds(Checkpoint):
    """Lets the fit take a round's steps when asked; a checkpoint by type alone, so that it is last."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.left = 1
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Count a step; behind a round's last one answer and wait."""
        self.left -= 1
        if self.left:
            return
        if trainer.global_step == 1:
            ready()
        else:
            answer(time.perf_counter() - self.began)
        trainer.should_stop = not asked()
        self.left, self.began = self.steps, time.perf_counter()


config = load_experiment(Path(told["experiment"]), []).config
data = SingleSourceDataModule(config.data.training(), config.seed, config.trainer.accumulate)
data.prepare_data()
data.setup()
run = RunFolder(Path(told["folder"]))
trainer = training.build_trainer(config, run)
trainer.callbacks.append(Rounds(told["steps"]))  # type: ignore[attr-defined]  # set from elsewhere in Lightning
training.keep_freed_memory()
trainer.fit(training.build_module(config, data), datamodule=data)
