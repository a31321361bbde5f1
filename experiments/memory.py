"""What the C library does with memory that PyTorch gives back to it."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
MOST_KEPT = 2**31 - 1
LARGEST_FROM_HEAP = 2**25
"""The largest threshold that every glibc accepts; it is the one that its own adaptation ends with."""


def keep_freed_memory() -> None:
    """Let glibc keep what a training step on the CPU frees for the next step, in place of returning it to the kernel.

    A step ends with tens of MiB free; returned, they come back page by page, each filled with zeros, in every step.
    Elsewhere than on glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_FROM_HEAP)
        mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
