"""Cells side by side: the processes that compute them, and what a signal or a kill does to them."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from callbacks.requests import Request
from datamodules.atomic import write_json, write_text
from experiments.machine import VISIBLE, Share
from experiments.run_folder import RunFolder
from experiments.study import settings as same
from experiments.study.cells import Cell
from experiments.study.finished import find_run
from experiments.submit import command

POLL = 0.2
"""Seconds between looks at the processes."""
NOTED = 30.0
"""Seconds between notes of the time that a cell has taken."""
_TAKE_OVER = {Request.PREEMPT: signal.SIGUSR1, Request.TERMINATE: signal.SIGTERM, Request.INTERRUPT: signal.SIGTERM}
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, see prctl(2)


class Process(Protocol):
    """As much of a process as is needed here: that of ``subprocess.Popen``."""

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""

    def send_signal(self, sig: int, /) -> None:
        """Send a signal."""


def start(words: Sequence[str], log: IO[str], environment: Mapping[str, str], lock: IO[str]) -> Process:
    """Start ``pansite`` in a session of its own, so that a signal reaches it by us alone, and once.

    It keeps the lock as long as it lives, and is told to stop when we die.
    """
    return subprocess.Popen(
        [*command(), *words],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        pass_fds=[lock.fileno()],
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


class Job:
    """A cell that is being computed.

    Args:
        cells: of the same settings; the first is run, and its record is that of all.
        share: what it gets of the machine.
        lock: held for it, see :func:`hold`.
    """

    def __init__(self, cells: Sequence[Cell], share: Share, lock: IO[str]) -> None:
        self.cells = cells
        self.cell = cells[0]
        self.share = share
        self._lock = lock
        self._trains = _trains(self.cell)
        notes = _read_notes(self.cell)
        self._before = _seconds(self.cell, notes)
        self._trained: float | None = notes.get("training")
        # Bits hang on the number of threads, and a run goes on with those that it began with.
        self.threads = int(notes.get("threads", share.threads))
        self._began = self._noted = time.monotonic()
        file = self.cell.work / f"{self.cell.name}.yaml"
        write_text(file, self.cell.yaml)
        self._note()
        with self.log.open("a", encoding="utf-8") as log:
            self._process = start(["run", str(file)], log, self._environment(), lock)

    @property
    def log(self) -> Path:
        """What the run says, all its lives after one another."""
        return self.cell.work / f"{self.cell.name}.log"

    @property
    def seconds(self) -> float | None:
        """Time taken, earlier lives included; None where others have trained it, who left no word of theirs."""
        return None if self._before is None else self._before + time.monotonic() - self._began

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        code = self._process.poll()
        if code is not None or time.monotonic() - self._noted > NOTED:
            self._note()
        return code

    def release(self) -> None:
        """Let others have the cell: once its record stands, for one who comes before would write a poorer one."""
        self._lock.close()

    def conclude(self, run: RunFolder) -> None:
        """Note how much of its time was training, for those who evaluate the same run in another way.

        Args:
            run: its run, finished.
        """
        if (seconds := self.seconds) is not None:
            since = time.time() - run.metrics.stat().st_mtime
            trained = seconds - min(since, time.monotonic() - self._began)
            self._trained = trained if self._trained is None else min(trained, self._trained)
        self._note()

    def stop(self, request: Request) -> None:
        """Tell it to save and stop."""
        with suppress(ProcessLookupError):
            self._process.send_signal(_TAKE_OVER[request])

    def last_words(self) -> str:
        """The last line of its log that says something."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        return said[-1].removeprefix("error: ") if said else "it said nothing"

    def _environment(self) -> dict[str, str]:
        threads = str(self.threads)
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        gpus = {} if self.share.gpus is None else {VISIBLE: self.share.gpus}
        # A cell is no task of a job that this command runs in: it is this command that SLURM puts back into the queue.
        own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return {**own, "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE", **limits, **gpus}

    def _note(self) -> None:
        self._noted = time.monotonic()
        times = {"seconds": self.seconds, "training": self._trained}
        rounded = {name: None if value is None else round(value, 1) for name, value in times.items()}
        notes = {"hash": self.cell.hash, "trains": self._trains, **rounded, "threads": self.threads}
        write_json(_notes(self.cell), notes)


def hold(cell: Cell) -> IO[str] | None:
    """The lock of a cell; None where another process has it, which computes the cell."""
    cell.work.mkdir(parents=True, exist_ok=True)
    lock = (cell.work / f".{cell.name}.lock").open("w", encoding="utf-8")
    try:
        # Not lockf: the run shall hold it too, should this process be killed.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def time_before(cell: Cell) -> float | None:
    """Seconds that a cell has taken so far, or its training where that is what stays of it; None where unknown."""
    return _seconds(cell, _read_notes(cell))


def _notes(cell: Cell) -> Path:
    return cell.work / f"{cell.name}.json"


def _trains(cell: Cell) -> str:
    return same.digest(same.of_training(cell.settings))


def _seconds(cell: Cell, notes: Mapping[str, Any]) -> float | None:
    """What of the time noted counts for a cell: all of the same cell's, and the training of one that trains alike.

    Where nothing is noted it is 0 if the run is yet to be begun, else unknown.
    """
    if not notes:
        return 0.0 if find_run(cell) is None else None
    taken = notes["seconds"]
    if notes["hash"] != cell.hash and notes["training"] is not None:  # until it has ended once, all is training
        taken = notes["training"]
    return None if taken is None else float(taken)


def _read_notes(cell: Cell) -> dict[str, Any]:
    """A cell's notes, else those of one that trains the same, such as of another look; empty where there are none."""
    trains = _trains(cell)
    alike = []
    for path in [_notes(cell), *sorted(cell.work.parent.parent.glob("*/*/*.json"))]:
        try:
            notes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if notes.get("hash") == cell.hash:
            return notes
        if notes.get("trains") == trains:
            alike.append(notes)
    return alike[0] if alike else {}


def ended(jobs: Sequence[Job]) -> Iterator[tuple[Job, int]]:
    """Those that have ended, with their exit codes."""
    for job in jobs:
        code = job.poll()
        if code is not None:
            yield job, code
