"""Processes that prepare one site take turns, and what a killed one left behind is cleared away."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from datamodules.writing import writing

LOCK = ".lock"
"""In a site's folder, held by the process that prepares it."""
ABANDONED = 24 * 3600
"""Seconds after which what a killed process left unfinished is cleared away."""


@contextmanager
def in_turn(home: Path, told: str | None) -> Iterator[None]:
    """Let one process after the other prepare a site: the first one does the work, the others find it done.

    Args:
        home: the site's folder.
        told: the site's name for whoever looks at it, None to wait without a word.
    """
    with writing(home):
        lock = (home / LOCK).open("a")
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if told is not None:
                console = Console(stderr=True, highlight=False, markup=False)
                console.print(f"waiting for another process that prepares {told}")
            fcntl.lockf(lock, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks: each does the work, and the first to finish a case wins.
            pass
        yield


def clear_abandoned(folder: Path) -> None:
    """Remove cases of that folder that nobody has been writing for a day."""
    for part in folder.glob(".*.part"):
        with suppress(FileNotFoundError):  # another process has finished it meanwhile
            if time.time() - part.stat().st_mtime > ABANDONED:
                shutil.rmtree(part, ignore_errors=True)
