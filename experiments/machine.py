"""The cores and GPUs that this process may use, and how jobs side by side share them; free of torch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from datamodules.errors import UsageError
from experiments.config import TrainerConfig

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Share:
    """What one of several jobs gets of the machine.

    Attributes:
        threads: of each of its processes.
        gpus: its GPUs, as CUDA_VISIBLE_DEVICES names them; None leaves those that are visible.
    """

    threads: int
    gpus: str | None


def shares(trainer: TrainerConfig, jobs: int | None, most: int | None = None) -> list[Share]:
    """A share for each job: the cores are divided, and the GPUs, of which a job gets as many as it has devices.

    Args:
        trainer: of the jobs.
        jobs: how many side by side; None for as many as there are GPUs for, or cores, with one thread each.
        most: no more jobs than these, however many are asked for.

    Raises:
        UsageError: more jobs than there are GPUs for.
    """
    cores, each = len(os.sched_getaffinity(0)), trainer.devices
    gpus = [] if trainer.accelerator == "cpu" else visible_gpus()
    room = len(gpus) // each if gpus else max(1, cores // each)
    if gpus and max(1, jobs or 1) > room:
        raise UsageError(
            f"--jobs {jobs or 1}: {jobs or 1} × {each} GPU{'s' * (each > 1)} (trainer.devices) need "
            f"{(jobs or 1) * each}, and there are {len(gpus)}; "
            + (f"take at most {room} jobs." if room else f"set trainer.devices to at most {len(gpus)}.")
        )
    jobs = min(jobs or room, most or jobs or room)
    threads = max(1, cores // (jobs * each))
    parts = [",".join(gpus[each * job : each * (job + 1)]) if gpus else None for job in range(jobs)]
    return [Share(threads, part) for part in parts]


def visible_gpus() -> list[str]:
    """The GPUs that a process started from here would see, as CUDA_VISIBLE_DEVICES names them."""
    if (visible := os.environ.get(VISIBLE)) is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    # PyTorch is asked in a process of its own: to load it here would cost time, and a CUDA context memory.
    count = "import torch; print(torch.cuda.device_count())"
    counted = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    return [str(number) for number in range(int(counted.stdout))]
