"""Who works on a trial: a small file a trial, renewed as long as the process lives."""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from datamodules.atomic import write_json
from experiments import status
from experiments.ending import job_id
from experiments.sweep.storage import now

RENEWED = 15.0
"""Seconds after which a lease is renewed."""
LOST = 120.0
"""Seconds after which a lease that nobody has renewed is lost, where nothing better is known of its owner."""


@dataclass(frozen=True)
class Lease:
    """What a lease's file holds.

    Attributes:
        phase: ``asked`` for a job whose ranks have yet to start, ``running``, or ``preempted`` in a job that is back in
            the queue.
        host: the machine.
        pid: of the first rank.
        born: when that process began, see :class:`~experiments.status.Status`.
        user: who runs it.
        job: of SLURM's, ``<array>_<task>`` in an array.
    """

    phase: Literal["asked", "running", "preempted"]
    host: str
    pid: int
    born: int
    user: str
    job: str | None


class Leases:
    """The leases of a sweep.

    Args:
        folder: of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, number: int, phase: Literal["asked", "running", "preempted"] = "running") -> None:
        """Take, or keep, a trial for this process."""
        pid = os.getpid()
        lease = Lease(phase, socket.gethostname(), pid, status.born(pid) or 0, getpass.getuser(), job_id())
        write_json(self._file(number), asdict(lease))

    def give_back(self, number: int) -> None:
        """Leave a trial to whoever comes."""
        file = self._file(number)
        file.unlink(missing_ok=True)
        for part in file.parent.glob(f".{file.name}.*.part"):  # of a process that was killed while it wrote
            part.unlink(missing_ok=True)

    def read(self, number: int) -> Lease | None:
        """Who has a trial; None for nobody."""
        try:
            return Lease(**json.loads(self._file(number).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def alive(self, number: int, jobs: Mapping[str, str] | None) -> bool:
        """Whether somebody works on a trial, or will.

        Args:
            number: of the trial.
            jobs: SLURM's word for each waiting or running job of this user's; None without SLURM.
        """
        lease = self.read(number)
        if lease is None:
            return False
        if lease.phase == "running" and lease.host == socket.gethostname():
            return self.is_here(lease)
        if lease.job is not None and jobs is not None and lease.user == getpass.getuser():
            state = jobs.get(lease.job, "COMPLETING")
            if state == "COMPLETING" or lease.phase != "running":
                return state != "COMPLETING"
        return self._age(number) < LOST

    @staticmethod
    def is_here(lease: Lease) -> bool:
        """Whether the process that holds a lease lives on this machine."""
        return lease.host == socket.gethostname() and status.born(lease.pid) == lease.born

    @contextmanager
    def kept(self, number: int) -> Iterator[None]:
        """Hold a trial within this block; what becomes of the lease then is the caller's to say."""
        self.take(number)
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(RENEWED):
                with suppress(OSError):
                    os.utime(self._file(number))

        thread = threading.Thread(target=renew, daemon=True, name="lease of a trial")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _age(self, number: int) -> float:
        try:
            return now(self._folder) - self._file(number).stat().st_mtime
        except OSError:
            return LOST

    def _file(self, number: int) -> Path:
        return self._folder / "leases" / f"{number:04d}.json"
