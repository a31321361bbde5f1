"""The device that a network computes on where it is not Lightning's trainer that decides."""

from __future__ import annotations

import torch

from datamodules.errors import UsageError
from experiments import launch
from experiments.config import TrainerConfig


def device_of(settings: TrainerConfig) -> torch.device:
    """This process' GPU, by ``trainer.accelerator``, or the CPU.

    Raises:
        UsageError: a GPU is asked for, and there is none.
    """
    wanted, there = settings.accelerator, torch.cuda.is_available()
    if wanted == "gpu" and not there:
        raise UsageError("trainer.accelerator: gpu is asked for, but there is none; add trainer.accelerator=cpu.")
    if not there or wanted == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", launch.local_rank() % torch.cuda.device_count())
