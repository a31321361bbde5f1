"""The command with ranks that Lightning's launcher starts, as forks of this process where it would start interpreters.

Ranks that Lightning starts are the same command anew, which takes seconds of imports each. Here they wait beside the
first rank, as its own children and with nothing begun, until the launcher asks for them: what watches ranks, ends them
or is left behind by them meets real processes.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import TimeoutExpired
from types import SimpleNamespace
from typing import NoReturn

import torch

from tests.kills import without_pages

Prepare = Callable[[], None]
"""Called in each rank, which knows by ``LOCAL_RANK`` which one it is, before the command."""


class Forked:
    """As much of ``subprocess.Popen`` as the launcher and the watch over the ranks use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutExpired("the command", timeout)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def launch(words: Sequence[object], out: Path, err: Path, ranks: int = 2, prepare: Prepare = lambda: None) -> Forked:
    """Begin the command in a process group of its own.

    Args:
        words: of the command line.
        out: file for what it prints; replaced.
        err: file for what it complains of; replaced.
        ranks: processes that share the work; the words ask for as many.
        prepare: alters the ranks.
    """
    import experiments.flow
    import experiments.report.page  # noqa: F401 - what the command imports late, so that no fork need do it

    child = os.fork()
    if not child:
        try:
            _begin(words, out, err, ranks, prepare)
        finally:
            os._exit(70)  # whatever comes here is no business of the tests' own process
    return Forked(child)


def _begin(words: Sequence[object], out: Path, err: Path, ranks: int, prepare: Prepare) -> NoReturn:
    os.setsid()
    atexit._clear()  # what this process has yet to do at its end is not the fork's to do
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    torch.set_num_threads(1)
    without_pages()
    waiting = [_stand_by(words, prepare) for _ in range(1, ranks)]

    def start(command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> Forked:
        pid, pipe = waiting.pop(0)
        os.write(pipe, f"{json.dumps(dict(env))}\n".encode())
        os.close(pipe)
        return Forked(pid)

    import pytorch_lightning.strategies.launchers.subprocess_script as launcher

    vars(launcher)["subprocess"] = SimpleNamespace(Popen=start)
    _run(words, prepare)


def _stand_by(words: Sequence[object], prepare: Prepare) -> tuple[int, int]:
    """A process that becomes a rank when its environment is written to the pipe, and ends where nobody will."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reading)
        return pid, writing
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.readline()
    if not told:
        os._exit(0)
    os.environ.clear()
    os.environ.update(json.loads(told))
    from lightning_utilities.core.rank_zero import rank_zero_only

    setattr(rank_zero_only, "rank", int(os.environ["LOCAL_RANK"]))  # noqa: B010 - typed without it
    _run(words, prepare)
    raise AssertionError("it does not return")


def _run(words: Sequence[object], prepare: Prepare) -> NoReturn:
    """Run the command to the end of this process, as an interpreter does."""
    from experiments.cli import main

    code = 1
    try:
        prepare()
        code = main([str(word) for word in words])
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(words: Sequence[object], folder: Path, ranks: int = 2, prepare: Prepare = lambda: None) -> tuple[int, str, str]:
    """Run the command to its end.

    Returns:
        the first rank's exit code, what was printed, what it complained of.
    """
    out, err = folder / "out.txt", folder / "err.txt"
    code = launch(words, out, err, ranks, prepare).wait()
    return code, out.read_text(), err.read_text()
