"""What a run can be asked by a signal, and who knows of it; free of torch, so that the command can begin with it."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol


class Request(IntEnum):
    """A request to end; where several come, the larger one counts.

    Attributes:
        PREEMPT: SIGUSR1, a scheduler's notice: save, make room, come back.
        TERMINATE: SIGTERM: save and stay away.
        INTERRUPT: Ctrl-C: the same.
    """

    PREEMPT = 1
    TERMINATE = 2
    INTERRUPT = 3


class Stopped(BaseException):
    """The work was asked to end and has ended in good order: what is done stands on disk.

    No ``Exception``, as ``KeyboardInterrupt`` is none: who excuses the fault of a case is not to excuse this.

    Args:
        request: what was asked.
        step: finished optimiser steps, where training was stopped.
        agreed: whether all ranks have stopped together, so that the first one answers for all.
    """

    def __init__(self, request: Request, step: int | None = None, agreed: bool = False) -> None:
        super().__init__(request.name.lower())
        self.request = request
        self.step = step
        self.agreed = agreed


class Signals(Protocol):
    """Who records the requests that come to this process."""

    def requested(self) -> int:
        """The :class:`Request` that has come, or 0."""

    def defer(self) -> None:
        """From now on SIGTERM and Ctrl-C are only recorded: whoever calls this looks after them."""

    def release(self) -> None:
        """From now on SIGTERM and Ctrl-C end the process at once again."""
