"""What it takes to preprocess a CT of 512×512×200: into Pansite's store beside nnU-Net's preprocessed folder.

    python -m tests.benchmarks.preprocess

Both read the same .nii.gz, crop, resample to the same spacing and write blosc2. Pansite also finds the organ's spatial
structure, hashes the voxels and describes the scan; nnU-Net resamples by splines of third order. One process each.
Memory is the most that the process has held, libraries included.
"""

from __future__ import annotations

from statistics import median

from tests.benchmarks.made import SHAPE, SMALL, write_ct, write_manifest
from tests.benchmarks.results import Line, Scale, at_most, gib, present
from tests.benchmarks.turns import Ratio, Side, by_turns

TITLE = "Preprocessing a case"
NATIVE, SPACING = (0.75, 0.75, 1.5), (1.0, 1.0, 1.5)


def measure(scale: Scale) -> list[Line]:
    """Time and memory."""
    raw, rounds = scale.scratch, 1 if scale.quick else 3
    write_ct(raw, "case", SMALL if scale.quick else SHAPE, NATIVE)
    ours = {"manifest": str(write_manifest(raw, ["case"])), "folder": str(raw / "ours"), "spacing": SPACING}
    if not scale.nnunet:
        with Side("ours_preprocess", ours, threads=scale.threads) as side:
            turns = by_turns([side], rounds)
        return [Line("preprocessing", "none", "", f"{median(turns.seconds[side.name]):.2f} s", None)]
    theirs = {"scratch": str(raw), "raw": str(raw), "spacing": SPACING, "patch": [96, 96, 96]}
    with (
        Side("ours_preprocess", ours, threads=scale.threads) as a,
        Side("nnunet_preprocess", theirs, scale.peers(), scale.threads) as b,
    ):
        turns = by_turns([a, b], rounds)
    (x, y), (m, n) = turns.seconds.values(), turns.peaks.values()
    return [
        at_most("time", "nnU-Net", Ratio.of(x, y), 0.6, f"{median(x):.1f} s, {median(y):.1f} s"),
        at_most("peak memory", "nnU-Net", m / n, 0.6, f"{gib(m)}, {gib(n)}"),
    ]


if __name__ == "__main__":
    present("preprocess", TITLE, __doc__, measure)
