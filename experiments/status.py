"""What a run is doing, as a small file in its folder, and whether that is still true."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from callbacks.requests import Request, Stopped
from datamodules.atomic import write_json
from datamodules.errors import UsageError
from experiments.ending import job_id

State = Literal["running", "preempted", "stopped", "failed", "trained", "done"]
NAME = "status.json"


@dataclass(frozen=True)
class Status:
    """What ``status.json`` holds.

    Attributes:
        state: ``running``; how the process has left otherwise; ``trained`` after the fit, ``done`` with its evaluation.
        work: ``fit`` or ``evaluate``.
        step: finished optimiser steps, where they are known.
        reason: of a failure.
        pid: of the first rank.
        born: when the process began, in clock ticks since the machine did: numbers of processes come again.
        host: its machine.
        user: who runs it.
        job: of SLURM's, ``<array>_<task>`` in an array.
        time: of this entry, seconds since 1970.
    """

    state: State
    work: str
    step: int | None
    reason: str
    pid: int
    born: int
    host: str
    user: str
    job: str | None
    time: float


@contextmanager
def fitting(folder: Path, step: int, max_steps: int) -> Iterator[None]:
    """Keep a run's ``status.json`` while it is trained from a step on, for the first rank."""
    known = read(folder)
    if step >= max_steps and known is not None and known.state == "done":
        yield
        return
    with _reported(folder, "fit", step, "trained", max_steps):
        yield


@contextmanager
def evaluating(folder: Path, max_steps: int) -> Iterator[None]:
    """Keep a run's ``status.json`` while it is evaluated, for the first rank; done is only what is trained too."""
    known = read(folder)
    step = max_steps if known is None else known.step
    try:
        with _reported(folder, "evaluate", step, "done" if step == max_steps else "stopped", step):
            yield
    except UsageError:
        # A mistake on the command line says nothing of the run.
        if known is not None:
            write_json(folder / NAME, asdict(known))
        raise


@contextmanager
def _reported(folder: Path, work: str, step: int | None, end: State, last: int | None) -> Iterator[None]:
    write(folder, "running", work, step)
    try:
        yield
    except Stopped as stopped:
        state: State = "preempted" if stopped.request is Request.PREEMPT else "stopped"
        write(folder, state, work, step if stopped.step is None else stopped.step)
        raise
    except (KeyboardInterrupt, SystemExit):
        write(folder, "stopped", work, step)
        raise
    except BaseException as error:
        lines = str(error).strip().splitlines()
        write(folder, "failed", work, step, lines[0] if lines else type(error).__name__)
        raise
    write(folder, end, work, last)


def write(folder: Path, state: State, work: str, step: int | None = None, reason: str = "") -> None:
    """Write the file, whole or not at all."""
    pid = os.getpid()
    status = Status(
        state, work, step, reason, pid, born(pid) or 0, socket.gethostname(), getpass.getuser(), job_id(), time.time()
    )
    write_json(folder / NAME, asdict(status))


def read(folder: Path) -> Status | None:
    """A run's status; None where it has none that can be read."""
    try:
        return Status(**json.loads((folder / NAME).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def now(status: Status, jobs: Mapping[str, str] | None) -> str:
    """The state as it is at this moment: what says that it runs may have been killed, what has stopped may wait.

    Args:
        status: as it was written.
        jobs: SLURM's word for the state of each waiting or running job of this user's; None without SLURM.
    """
    job = (jobs or {}).get(status.job or "")
    if job is not None and job != "COMPLETING" and status.state != "done":
        # What had stopped has been started again where it does not wait.
        return "running" if job in ("RUNNING", "CONFIGURING", "SUSPENDED") else "queued"
    if status.state != "running":
        return status.state
    if status.host == socket.gethostname():
        return "running" if born(status.pid) == status.born else "killed"
    # Of another user's jobs, and of processes on other machines, nothing is known here.
    known = status.job is not None and jobs is not None and status.user == getpass.getuser()
    return "killed" if known else f"running on {status.host}"


def jobs() -> dict[str, str] | None:
    """State of each waiting or running job of this user's; None where there is no SLURM that answers."""
    words = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i %T"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)


def born(pid: int) -> int | None:
    """When a process of this machine began; None where there is none (a dead one that nobody has buried is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
