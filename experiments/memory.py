"""What the C library does with memory that PyTorch gives back to it."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc
NEVER = -1


def keep_freed_memory() -> None:
    """Let glibc keep what a training step on the CPU frees for the next step, in place of returning it to the kernel.

    A step ends with all of its activations free. Returned, they come back page by page, each filled with zeros, in
    every step: about a fifth of the time with the default network at 96³. So nothing is taken by mmap, which returns
    what is freed; where the heap has no room, glibc takes that way all the same. Elsewhere than on glibc nothing is
    done.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)
