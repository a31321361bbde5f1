"""Processes that this one starts and waits for; what it is asked by a signal it asks them too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from callbacks.requests import Request, Stopped
from experiments.signals import REQUESTS, SIGNALS

POLL_SECONDS = 0.2
_CODES = {75: Request.PREEMPT, 130: Request.INTERRUPT, 143: Request.TERMINATE}


def command(words: Sequence[str]) -> list[str]:
    """``pansite`` with this very interpreter."""
    return [sys.executable, "-m", "experiments", *words]


def run(
    words: Sequence[str],
    environments: Sequence[Mapping[str, str]],
    again: Callable[[int], bool] = lambda _: False,
) -> list[int]:
    """Run a command of ``pansite`` in several processes and wait for all.

    Args:
        words: the command.
        environments: of each process, on top of this one's.
        again: asked, with its exit code, whether a process that has ended is to be started once more.

    Returns:
        the exit codes.

    Raises:
        Stopped: a signal has come, and all have ended.
    """

    def start(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command(words), env={**os.environ, **environment})

    SIGNALS.defer()
    try:
        children = [start(environment) for environment in environments]
        asked = 0
        while any(child.poll() is None for child in children):
            time.sleep(POLL_SECONDS)
            if (request := SIGNALS.requested()) > asked:
                asked = request
                _pass_on(Request(request), children)
            for place, child in enumerate(children):
                code = child.poll()
                if not asked and code is not None and again(code):
                    children[place] = start(environments[place])
    finally:
        SIGNALS.release()
    codes = [child.wait() for child in children]
    if asked:
        raise Stopped(Request(asked))
    if stopped := [_CODES[code] for code in codes if code in _CODES]:
        raise Stopped(max(stopped))
    return codes


def _pass_on(request: Request, children: Sequence[subprocess.Popen[bytes]]) -> None:
    # A terminal sends its Ctrl-C to all processes by itself.
    if request is Request.INTERRUPT and os.isatty(0):
        return
    (number,) = (number for number, asked in REQUESTS.items() if asked is request)
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.Signals(number))
