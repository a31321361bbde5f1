"""Optuna's journal in a file, safe against processes that are killed in the middle of anything."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

JOURNAL = "journal.log"


class KernelLock(JournalFileOpenLock):
    """Optuna's lock for the journal, held by the kernel: it is free as soon as who held it is dead.

    Optuna's own is a file, which a killed process leaves behind: the others then wait for half a minute.

    Args:
        path: of the lock's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1

    def acquire(self) -> bool:
        """Wait for the lock."""
        handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o666)
        fcntl.lockf(handle, fcntl.LOCK_EX)
        self._handle = handle
        return True

    def release(self) -> None:
        """Give it back."""
        os.close(self._handle)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Do something in a sweep's folder that no other process does at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = KernelLock(folder / ".lock")
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def storage(folder: Path) -> JournalStorage:
    """The sweep's storage; a line that a dying machine has left unfinished is dropped first."""
    journal = folder / JOURNAL
    lock = KernelLock(folder / f".{JOURNAL}.lock")
    lock.acquire()
    try:
        _drop_unfinished_line(journal)
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))


def now(folder: Path) -> float:
    """The time as the file system sees it, which all machines share, seconds since 1970."""
    clock = folder / ".clock"
    try:
        clock.touch()
        os.utime(clock)
        return clock.stat().st_mtime
    except OSError:
        return time.time()


def _drop_unfinished_line(journal: Path) -> None:
    if not journal.is_file():
        return
    content = journal.read_bytes()
    if content and not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
