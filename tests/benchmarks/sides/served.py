"""What a side of a comparison does: set up, then a round of work for each line that it is sent.

Runs in Pansite's environment and in the peers', and needs Python's own modules alone. The answers are lines of JSON.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w")
"""Where the comparison reads; taken away from what libraries print, from their imports on."""
os.dup2(2, 1)


def serve(work: Callable[[], Any]) -> None:
    """Say that all is set up; then for each line on stdin work, and answer with its seconds and what it returned.

    Args:
        work: one round; returns what JSON can hold.
    """
    ready()
    while asked():
        begin = time.perf_counter()
        found = work()
        answer(time.perf_counter() - begin, found)


def ready() -> None:
    """Say that all is set up."""
    print(json.dumps({"ready": True}), file=ANSWERS, flush=True)


def asked() -> bool:
    """Wait until a round is asked for; False where none will be any more."""
    return bool(sys.stdin.readline())


def answer(seconds: float, found: Any = None) -> None:
    """Tell what a round took and found, and what this process and its children have held in memory at most."""
    print(json.dumps({"seconds": seconds, "found": found, "peak": peak()}), file=ANSWERS, flush=True)


def peak() -> int:
    """The most bytes that this process has held in memory so far, and each of its children, added up."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    return sum(_peak(int(process)) for process in (own, *children))


def _peak(process: int) -> int:
    found = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[0]) * 1024 if found else 0


def arguments() -> dict[str, Any]:
    """What the comparison told this side: JSON, the only word of its command."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    return told
