"""Memory that a step has freed serves the next one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource, sys
import numpy as np
from experiments.memory import keep_freed_memory

def fill():
    # Of 2 MiB, as much of a small network's step is, and of 48: beyond what glibc lets a threshold of its heap reach.
    held = [np.ones(2**21, np.uint8) for _ in range(40)], [np.ones(3 * 2**24, np.uint8) for _ in range(2)]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
fill()
fill()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything")
def test_freed_memory_is_used_again_and_not_fetched_anew() -> None:
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", ROUNDS, mode], check=True, capture_output=True).stdout)
        for mode in ("keep", "give back")
    }
    assert faults["give back"] > 1000
    assert faults["keep"] < 100
