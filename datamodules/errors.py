"""What a person did wrong, said in one sentence: the command prints it and leaves with exit code 2."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from zipfile import BadZipFile

NPZ_ERRORS = (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error)
"""What NumPy raises where an ``.npz`` is missing, cut off or another file."""


def one_line(text: str) -> str:
    """A text with what can't be printed escaped: a file's name may hold newlines, and a terminal's commands."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class UsageError(Exception):
    """A mistake in the configuration, the command line or the data that the user can mend.

    The message is one sentence: what is wrong, where (file and key, or site and case), and the way out.
    """


class ConfigurationErrors(UsageError):
    """Every fault of a configuration at once, one line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class CaseError(UsageError):
    """A case that can't be used. Whoever catches it knows the site and the case and goes on with the rest."""


class UnreadableError(CaseError):
    """The system did not give the file: no permission, a broken disk, too little memory. Another time it may."""


class AgreedError(UsageError):
    """A mistake that all ranks have found together and raise at the same time: the first one tells it for all."""


class Notice(UserWarning):
    """What a person should know though it stops nothing: the command prints it, as ``warning: …``."""


class LostRankError(Exception):
    """The ranks of a run can't go on together.

    Args:
        message: one sentence; empty where another rank tells it.
        code: exit code of the process.
    """

    def __init__(self, message: str = "", code: int = 1) -> None:
        super().__init__(message)
        self.code = code
