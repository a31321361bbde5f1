"""The same work on many items in several processes, where a process that is killed costs its own item only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

PRELOADED = ["torchio", "datamodules.prepare_case"]
"""Imported once, before workers are forked: torch and its kin take seconds."""


class Killed(Exception):
    """A worker ended without an answer: most often the system killed it for want of memory."""


def run_all(work: Callable[[T], R], items: Sequence[T], processes: int) -> Iterator[tuple[T, R | Killed]]:
    """Yield each item with its result, in the order in which they get done.

    Args:
        work: a module's function; what it raises is raised here, and what has not begun is dropped.
        items: its arguments; they and the results are pickled.
        processes: how many at once; up to 1 the work is done in this process.
    """
    if processes <= 1 or len(items) <= 1:
        for item in items:
            yield item, work(item)
        return
    left = dict(enumerate(items))
    try:
        for place, result in _pooled(work, left, processes):
            yield left.pop(place), result
    except BrokenProcessPool:
        # Nobody knows whose item it was: each of the rest gets a process of its own, so that only one is lost.
        for place, item in list(left.items()):
            try:
                _, result = next(_pooled(work, {place: item}, 1))
            except BrokenProcessPool:
                yield item, Killed()
            else:
                yield item, result


def _pooled(work: Callable[[T], R], items: dict[int, T], processes: int) -> Iterator[tuple[int, R]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    executor = ProcessPoolExecutor(min(processes, len(items)), mp_context=context, initializer=_prepare_worker)
    try:
        with _main_hidden():  # it is at submission that processes are started
            futures: dict[Future[R], int] = {executor.submit(work, item): place for place, item in items.items()}
        while futures:
            done, _ = wait(futures, return_when=FIRST_COMPLETED)
            for future in done:
                place = futures.pop(future)
                yield place, future.result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep new processes from running the user's script again, which need not be guarded by ``__main__``.

    ``multiprocessing`` imports it so that functions of it can be unpickled; ours are all in modules.
    """
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__
    }
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)


def _end_with_parent() -> None:
    """A worker whose parent was killed would finish what is queued, unlocked, and then wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare_worker() -> None:
    """Workers side by side would be slowed down by each other's threads; and signals are not for them."""
    # A scheduler's notice is for the command: as a killed worker's, the case would be left out.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import SimpleITK
    import torch

    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
