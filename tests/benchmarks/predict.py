"""What it takes to predict a CT of 512×512×200 on its own grid, from file to file, beside nnU-Net's predictor.

    python -m tests.benchmarks.predict

The same network with the same weights, patches of 96³ that overlap by half, a Gaussian over each, no flips, float32,
one process each. Pansite crops to the body before it predicts. Memory is the most that the process has held, libraries
included. The network is not trained, so that masks depend on how images were resampled: of a size, not alike.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

from tests.benchmarks.made import SHAPE, SMALL, write_ct
from tests.benchmarks.results import Line, Scale, at_most, gib, present
from tests.benchmarks.turns import Ratio, Side, by_turns

TITLE = "Predicting a case"
NATIVE, SPACING = (0.75, 0.75, 1.5), (1.5, 1.5, 1.5)


def measure(scale: Scale) -> list[Line]:
    """Time and memory."""
    raw = scale.scratch
    write_ct(raw, "case", SMALL if scale.quick else SHAPE, NATIVE)
    told = {
        "image": str(raw / "imagesTr" / "case_0000.nii.gz"), "scratch": str(raw), "spacing": SPACING,
        "patch": [32 if scale.quick else 96] * 3, "filters": [4, 8, 16] if scale.quick else [8, 16, 32, 64],
        "threads": scale.threads,
    }  # fmt: skip
    ours, theirs = raw / "ours.nii.gz", raw / "theirs"
    with Side("ours_predict", {**told, "mask": str(ours)}, threads=scale.threads) as a:
        if not scale.nnunet:
            turns = by_turns([a], 1, warm_up=0)
            return [Line("predicting", "none", "", f"{median(turns.seconds[a.name]):.2f} s", None)]
        with Side("nnunet_predict", {**told, "mask": str(theirs)}, scale.peers(), scale.threads) as b:
            turns = by_turns([a, b], 1 if scale.quick else 2, warm_up=0)
    (x, y), (m, n) = turns.seconds.values(), turns.peaks.values()
    found = " and ".join(f"{_voxels(file):,}" for file in (ours, theirs.with_suffix(".nii.gz")))
    return [
        at_most(
            "time",
            "nnU-Net's predictor",
            Ratio.of(x, y),
            0.7,
            f"{median(x):.1f} s, {median(y):.1f} s; {found} voxels found",
        ),
        at_most("peak memory", "nnU-Net's predictor", m / n, 0.5, f"{gib(m)}, {gib(n)}"),
    ]


def _voxels(file: Path) -> int:
    return int(np.count_nonzero(np.asarray(nib.load(file).dataobj)))


if __name__ == "__main__":
    present("predict", TITLE, __doc__, measure)
