"""Signals that ask the command to end: recorded from its first line on, heeded where nothing is lost.

SIGUSR1, a scheduler's notice, is always recorded: it may come while torch is being imported, and would otherwise kill
the process and lose the requeue. SIGTERM and Ctrl-C end the command at once, except while a loop of training or
evaluation has asked to look after them itself: it finishes its step, saves and leaves.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from callbacks.requests import Request, Stopped

REQUESTS = {
    signal.SIGUSR1: Request.PREEMPT,
    signal.SIGTERM: Request.TERMINATE,
    signal.SIGINT: Request.INTERRUPT,
}
_ONCE_MORE = b"\nstopping after this step; Ctrl-C once more ends at once\n"


class Recorder:
    """Records what this process is asked; there is one, :data:`SIGNALS`."""

    def __init__(self) -> None:
        self._requested = 0
        self._deferring = False
        self._at_once = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Our handlers within this block, those that were there before after it.

        Outside of the main thread, where Python allows for no handlers, nothing is installed.
        """
        before = self.install()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._requested = 0
            self._deferring = False

    def install(self) -> dict[signal.Signals, signal._HANDLER]:
        """Put our handlers in place for good.

        Returns:
            those that were there before.
        """
        if threading.current_thread() is not threading.main_thread():
            return {}
        before = {number: signal.getsignal(number) for number in REQUESTS}
        for number, handler in before.items():
            # A shell starts what runs in its background with Ctrl-C ignored, and so it stays.
            if not (number == signal.SIGINT and handler is signal.SIG_IGN):
                signal.signal(number, self._handle)
        return before

    def requested(self) -> int:
        """The gravest :class:`Request` that has come, or 0."""
        return self._requested

    def defer(self) -> None:
        """Only record SIGTERM and Ctrl-C from now on; Ctrl-C once more ends the process all the same."""
        self._deferring = True

    def release(self) -> None:
        """Let SIGTERM and Ctrl-C end the process at once again."""
        self._deferring = False

    @contextmanager
    def released(self) -> Iterator[None]:
        """Whoever defers signals within this block need not release them."""
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that SIGUSR1 ends at once, before or within: a long one, which loses nothing by it.

        Raises:
            Stopped: the signal has come.
        """
        self._at_once = True
        try:
            if self._requested:
                raise Stopped(Request(self._requested))
            yield
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        request = REQUESTS[signal.Signals(number)]
        if request is not Request.PREEMPT and not self._deferring:
            self._end(number, frame)
            return
        self._requested = max(self._requested, request)
        if request is Request.INTERRUPT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if os.environ.get("LOCAL_RANK", "0") == "0":
                with suppress(OSError):
                    os.write(2, _ONCE_MORE)  # print is not for handlers
        if request is Request.PREEMPT and self._at_once:
            raise Stopped(request)

    @staticmethod
    def _end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        # By the signal itself: an exception could be lost in the middle of an import or a destructor.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


SIGNALS = Recorder()
