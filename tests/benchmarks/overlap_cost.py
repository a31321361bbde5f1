"""What it costs to look for scans that are there twice, by number of cases.

    python -m tests.benchmarks.overlap_cost [number of cases …]

Synthetic keys of 50 slices a case, as they come in patients: a slice is like its neighbours, and less like those of
others. One case in ten is there twice, as an upper half. Only the search is timed, in seconds of the processor; the
comparison of the pairs that it finds takes the same time for each of them, which is told apart.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

from datamodules.descriptor import describe
from datamodules.overlap import candidates
from datamodules.same_scan import agreement
from tests.datamodules.patients import EDGES, patient

SLICES, ENTRIES = 50, 63
OWN, ALONG = 0.16, 0.035
"""How far a case's slices lie from the mean of all, and from their neighbours, as in phantoms and the real CTs."""
TWICE = 10


def keys(number: int, seed: int = 0) -> list[NDArray[np.float32]]:
    """The keys of as many cases."""
    generator = np.random.default_rng(seed)
    mean = generator.random(ENTRIES) + 0.2
    mean /= np.linalg.norm(mean)
    found: list[NDArray[np.float32]] = []
    for place in range(number):
        if place % TWICE == TWICE - 1:
            half = found[place - TWICE // 2][SLICES // 2 :]
            case = half + generator.normal(0, 0.003, half.shape)
        else:
            steps = generator.normal(0, ALONG / ENTRIES**0.5, (SLICES, ENTRIES)).cumsum(axis=0)
            case = mean + generator.normal(0, OWN / ENTRIES**0.5, ENTRIES) + steps
        found.append((case / np.linalg.norm(case, axis=1, keepdims=True)).astype(np.float32))
    return found


def main(numbers: list[int]) -> None:
    """Print seconds of one processor by number of cases, and what the comparison of a pair takes."""
    before: tuple[int, float] | None = None
    for number in numbers:
        given = keys(number)
        start = time.process_time()
        found = candidates(given)
        took = time.process_time() - start
        wanted = {(place - TWICE // 2, place) for place in range(TWICE - 1, number, TWICE)}
        power = "" if before is None else f", power {np.log(took / before[1]) / np.log(number / before[0]):.2f}"
        print(
            f"{number:6d} cases: {took:6.2f} s{power}; {len(wanted & found)} of {len(wanted)} found, "
            f"{len(found - wanted)} others to compare",
            flush=True,
        )
        before = number, took
    one, other = (describe(patient(seed), np.array(EDGES)) for seed in (0, 1))
    start = time.process_time()
    for _ in range(10):
        agreement(one, other)
    print(f"comparing a pair: {(time.process_time() - start) * 100:.0f} ms")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [250, 500, 1000, 2000, 5000])
