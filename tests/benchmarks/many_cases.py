"""The most memory that training holds, by the number of cases: 10, 100 and 1,000.

    python -m tests.benchmarks.many_cases

The cases are simulated: one case of 512×512×200 is in the store, the others are links to its arrays under names of
their own. Each of the training cases is read once by two loader processes, and 5 steps are taken on patches of 96³.
Counted are the process and its loaders, libraries included.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from datamodules.store import CaseRecord, write_case
from datamodules.structure import axis_coordinate, foreground, signed_distance
from tests.benchmarks.made import SHAPE, SMALL, ct
from tests.benchmarks.results import Line, Scale, at_most, gib, present
from tests.benchmarks.turns import Side

TITLE = "Memory of training by number of cases"
SPACING = (0.8, 0.8, 1.5)


def measure(scale: Scale) -> list[Line]:
    """Memory."""
    counts = (10, 40) if scale.quick else (10, 100, 1000)
    peaks = {}
    for count in counts:
        store = scale.scratch / f"store{count}"
        _simulate(store, count, scale)
        told = {
            "store": str(store), "workers": 2, "steps": 2 if scale.quick else 5, "threads": scale.threads,
            "patch": [32 if scale.quick else 96] * 3,
        }  # fmt: skip
        with Side("ours_cases", told, threads=scale.threads) as side:
            answer = side.turn()
        peaks[count] = answer["peak"]
    first = counts[0]
    return [
        at_most(f"peak memory with {count:,} cases", f"with {first}", peaks[count] / peaks[first], 1.1,
                f"{gib(peaks[count])}, {gib(peaks[first])}")
        for count in counts[1:]
    ]  # fmt: skip


def _simulate(store: Path, count: int, scale: Scale) -> None:
    """A store of ``count`` cases that share one case's arrays."""
    first = store / "case0000"
    first.mkdir(parents=True)
    image, label = ct(SMALL if scale.quick else SHAPE, SPACING)
    affine = np.diag([*SPACING, 1.0])
    axis = axis_coordinate(label, affine)
    d, h, w = image.shape
    record = CaseRecord(
        "many", first.name, first.name, (d, h, w), SPACING, affine.tolist(), (d, h, w), affine.tolist(),
        "image.nii.gz", "label.nii.gz", [1], "", "", 0.0, [],
    )  # fmt: skip
    write_case(first, record, image, label, signed_distance(label, SPACING), axis, foreground(label, axis))
    for number in range(1, count):
        other = store / f"case{number:04d}"
        other.mkdir()
        for file in first.iterdir():
            if file.name != "record.json":
                os.link(file, other / file.name)
        own = replace(record, case=other.name, patient=other.name)
        (other / "record.json").write_text(json.dumps(own.to_dict()), encoding="utf-8")


if __name__ == "__main__":
    present("many_cases", TITLE, __doc__, measure)
