"""What a supervised training step of Pansite takes beside a bare PyTorch loop on batches that lie in memory.

    python -m tests.benchmarks.supervised_step

The default network, two patches of 96³ a batch, bf16-mixed, channels-last, the same loss, optimiser and clipping on
both sides. Pansite's step is a real fit's: two loader processes read from CTs of 512×512×200, patches are augmented by
the standard augmentation, and every callback of a run is there.
"""

from __future__ import annotations

from statistics import median

from tests.benchmarks.made import SHAPE, SMALL, write_ct, write_experiment
from tests.benchmarks.results import Line, Scale, at_most, present
from tests.benchmarks.turns import Ratio, Side, by_turns

TITLE = "A whole training step, supervised"
SPACING = (0.8, 0.8, 1.5)
NAMES = ["a", "b", "c"]


def measure(scale: Scale) -> list[Line]:
    """Time."""
    folder = scale.scratch
    for seed, name in enumerate(NAMES):
        write_ct(folder, name, SMALL if scale.quick else SHAPE, SPACING, seed)
    told = {
        "experiment": str(write_experiment(folder, NAMES, SPACING, scale.quick)),
        "folder": str(folder / "run"),
        "steps": 2,
        "threads": scale.threads,
    }
    with (
        Side("ours_step", told, threads=scale.threads) as a,
        Side("bare_step", told, threads=scale.threads) as b,
    ):
        turns = by_turns([a, b], 2 if scale.quick else 7)
    (x, y), steps = turns.seconds.values(), told["steps"]
    assert isinstance(steps, int)
    detail = f"{median(x) / steps:.2f} s and {median(y) / steps:.2f} s a step"
    return [at_most("time", "a bare PyTorch loop", Ratio.of(x, y), 1.05, detail)]


if __name__ == "__main__":
    present("supervised_step", TITLE, __doc__, measure)
