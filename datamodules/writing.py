"""What the disk of the store refuses, as the sentence that the user needs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datamodules.errors import UsageError


@contextmanager
def writing(store: Path) -> Iterator[None]:
    """Turn what the disk refuses into the sentence that the user needs.

    Raises:
        UsageError: the disk is full, or the folder can't be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UsageError(
                f"the disk of the store {store} is full ({error.strerror}): free some space or set data.store "
                f"to another disk; what is prepared so far is kept"
            ) from error
        raise UsageError(
            f"the store {store} can't be written to ({error.strerror or error}): set data.store"
        ) from error
