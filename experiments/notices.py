"""What a command warns of: one line on stderr, once, without the place in our code that Python would name."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from datamodules.errors import Notice


@contextmanager
def notices_told() -> Iterator[None]:
    """Within this block each :class:`Notice` is printed, and any other warning shown as it was."""
    told: set[str] = set()
    with warnings.catch_warnings():
        shown_before = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, Notice):
                shown_before(message, category, filename, lineno, file, line)
            elif str(message) not in told:
                told.add(str(message))
                tell(str(message))

        warnings.simplefilter("always", Notice)
        warnings.showwarning = show
        yield


def tell(text: str) -> None:
    """Print a warning on stderr."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    start, end = ("\x1b[1;33m", "\x1b[0m") if colour else ("", "")
    print(f"{start}warning:{end} {text}", file=sys.stderr)
