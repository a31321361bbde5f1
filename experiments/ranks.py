"""Several ranks that end together: where one dies all end soon, and one sentence tells why.

A rank whose neighbour is gone waits in a collective: gloo notices at once, NCCL after its timeout. Lightning watches
the ranks that it has started and kills them all without a word, the first one included; and where the first one is
killed, nobody watches the others. Here the first rank watches the ranks it has started and they watch it.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from datamodules.errors import LostRankError
from experiments.config import TrainerConfig

GRACE_SECONDS = 10.0
"""For a rank to come to its end by itself once another one is gone."""
POLL_SECONDS = 0.5
FIRST_RANK = "PANSITE_FIRST_RANK"
"""Tells a rank that another rank has started it, and which process that is."""
_GOES_ON = "all ranks have ended, and the same command goes on from the last checkpoint"
_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "timed out waiting")


def strategy(settings: TrainerConfig) -> str | DDPStrategy:
    """Lightning's strategy: plain with one device, else DDP without a search for unused parameters."""
    if settings.devices * settings.nodes == 1:
        return "auto"
    # Buffers are constants (SwinUNETR's indices): nothing of them is to be sent round in every step.
    timeout = timedelta(minutes=settings.timeout)
    return WatchedDDP(timeout=timeout, find_unused_parameters=False, broadcast_buffers=False)


@contextmanager
def together() -> Iterator[None]:
    """Whatever ends the work of one rank within this block ends that of all, and one of them tells it.

    Raises:
        LostRankError: another rank is gone or does not answer any more.
    """
    try:
        yield
    except BaseException as error:
        if not _is_loss(error):
            # Ours to tell; the ranks that wait for us need not find out.
            if _watch is not None:
                _watch.end()
            raise
        if _watch is not None:
            raise _watch.explain(error) from error
        if _was_started_by_a_rank():
            # Who tells it, the first rank or our watch over it, ends this process too.
            time.sleep(2 * GRACE_SECONDS)
            raise LostRankError from error
        raise LostRankError(f"the ranks have lost one another ({_first_line(error)}); {_GOES_ON}.") from error


class WatchedDDP(DDPStrategy):
    """Lightning's DDP, whose ranks watch one another."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _WatchedLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


class _WatchedLauncher(_SubprocessScriptLauncher):
    """Starts the ranks as Lightning does, and watches them."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[FIRST_RANK] = str(os.getpid())
            self._call_children_scripts()
            _watch_over(self.procs)
        elif _was_started_by_a_rank():
            _watch_the_first_rank()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def kill(self, signum: Any) -> None:
        if _watch is not None and signum == signal.SIGKILL:
            _watch.end()
        super().kill(signum)


class _Watch:
    """The first rank's eye on the ranks that it has started, in the order of their numbers."""

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        self._processes = processes
        self._ending = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="watch over the ranks").start()
        atexit.register(self._leave)

    def end(self) -> None:
        """End the other ranks, now and without a word."""
        self._ending.set()
        for process in self._processes:
            if process.poll() is None:
                process.kill()

    def explain(self, error: BaseException) -> LostRankError:
        """Why the other ranks do not answer any more; ends them."""
        deadline = time.monotonic() + GRACE_SECONDS / 2
        while (lost := self._lost()) is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 10)
        self.end()
        if lost is not None:
            return _explanation(*lost)
        return LostRankError(
            f"the ranks do not answer one another any more ({_first_line(error)}; trainer.timeout); {_GOES_ON}."
        )

    def _run(self) -> None:
        while not self._ending.wait(POLL_SECONDS):
            lost = self._lost()
            if lost is not None and not self._ending.wait(GRACE_SECONDS):
                # The main thread hangs in a collective that nobody will ever join.
                reason = _explanation(*lost)
                if str(reason):
                    _tell(str(reason))
                self.end()
                os._exit(reason.code)

    def _lost(self) -> tuple[int, int] | None:
        """Number and return code of a rank that has ended and not well."""
        codes = [process.poll() for process in self._processes]
        return next(((rank, code) for rank, code in enumerate(codes, start=1) if code), None)

    def _leave(self) -> None:
        """At the end of the first rank: let the others come to theirs, else end them."""
        deadline = time.monotonic() + GRACE_SECONDS
        self._ending.set()
        while any(process.poll() is None for process in self._processes) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 10)
        self.end()


_watch: _Watch | None = None
_watches_the_first = False


def _watch_over(processes: list[subprocess.Popen[bytes]]) -> None:
    global _watch
    _watch = _Watch(processes)


def _was_started_by_a_rank() -> bool:
    return os.environ.get(FIRST_RANK, str(os.getpid())) != str(os.getpid())


def _watch_the_first_rank() -> None:
    """End this process when the first rank has gone without ending it."""
    global _watches_the_first
    if _watches_the_first:
        return
    _watches_the_first = True

    def run() -> None:
        while str(os.getppid()) == os.environ[FIRST_RANK]:
            time.sleep(POLL_SECONDS)
        if os.environ.get("LOCAL_RANK") == "1":
            _tell(f"the first rank was killed (as the kernel does when memory runs out); {_GOES_ON}.")
        os._exit(1)

    threading.Thread(target=run, daemon=True, name="watch over the first rank").start()


def _explanation(rank: int, code: int) -> LostRankError:
    if code < 0:
        name = signal.Signals(-code).name
        memory = " (as the kernel does when memory runs out)" if -code == signal.SIGKILL else ""
        return LostRankError(f"rank {rank} was killed by {name}{memory}; {_GOES_ON}.")
    # It has told its own error; a mistake of the user's keeps its exit code.
    return LostRankError(code=code)


def _is_loss(error: BaseException) -> bool:
    """Whether an error only says that other ranks do not answer."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _LOST)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _tell(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr, flush=True)
