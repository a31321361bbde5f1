"""Is this volume a CT in Hounsfield units? Judged by what a CT of an abdomen shows, never by a file's name.

Air is −1000 HU and soft tissue 0 to 100 by the scale's definition, fat lies near −100 and bone above 200 in every
adult abdomen. An MR, a CT stored without its rescale intercept, or one scaled to [0, 255] shows none of the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

AIR, FAT, SOFT, BONE = (-1100.0, -850.0), (-150.0, -50.0), (0.0, 100.0), (200.0, 3100.0)
PADDING = -1500.0
"""Below this nothing is tissue or air: scanners and tools fill what they did not see with −1536 to −3024."""
SAMPLES = 4_000_000
"""At most about this many voxels are looked at."""
INTERCEPT = 1024.0


class Evidence(NamedTuple):
    """Shares of a volume's voxels, padding left out; those of tissue are of what is neither padding nor air."""

    minimum: float
    maximum: float
    padding: float
    air: float
    fat: float
    soft: float
    soft_mode: float
    """The commonest value of tissue between −200 and 300 in HU, NaN where there is none."""
    bone: float
    whole_numbers: float

    def against(self) -> list[str]:
        """What speaks against a CT, one phrase each; empty for a CT.

        Air and soft tissue are asked of every CT; of fat and bone one may be lacking (a lean patient, no bone in
        a cropped field of view), as long as the bone that is there is not more than a skeleton.
        """
        found = []
        if self.air < 0.002 and self.padding < 0.002:
            found.append(f"no air near −1000 HU (the lowest value is {self.minimum:.5g})")
        if self.soft < 0.05:
            found.append(f"no soft tissue between 0 and 100 HU ({self.soft:.1%} of the tissue)")
        elif not -150 <= self.soft_mode <= 150:
            found.append(f"its commonest tissue is at {self.soft_mode:.0f} HU")
        if self.bone > 0.3:
            found.append(f"{self.bone:.0%} of it above 200 HU, more than bone can be")
        lacking = []
        if self.fat < 0.005:
            lacking.append(f"no fat near −100 HU ({self.fat:.1%})")
        if self.bone < 1e-4:
            lacking.append("no bone above 200 HU")
        if found or len(lacking) == 2:
            found += lacking
            if self.minimum >= 0:
                found.append("no negative value at all")
            if self.whole_numbers < 0.5:
                found.append("values that are not whole numbers")
        return found


def examine(voxels: NDArray[Any]) -> Evidence:
    """The evidence in a volume of finite values, D×H×W, that are meant to be HU."""
    stride = max(1, round((voxels.size / SAMPLES) ** (1 / 3)))
    sample = np.asarray(voxels[::stride, ::stride, ::stride], dtype=np.float32).ravel()
    padding = float(np.mean(sample < PADDING))
    seen = sample[sample >= PADDING]
    tissue = seen[seen > AIR[1]]
    counts, edges = np.histogram(tissue, bins=np.arange(-200, 301, 10))
    return Evidence(
        minimum=float(voxels.min()),
        maximum=float(voxels.max()),
        padding=padding,
        air=_share(seen, AIR),
        fat=_share(tissue, FAT),
        soft=_share(tissue, SOFT),
        soft_mode=float(edges[counts.argmax()] + 5) if counts.any() else float("nan"),
        bone=_share(tissue, BONE),
        whole_numbers=float(np.mean(sample == np.round(sample))),
    )


def not_a_ct(voxels: NDArray[Any]) -> str | None:
    """Why a volume is not taken for a CT in HU, with the way out; None where it is one."""
    against = examine(voxels).against()
    if not against:
        return None
    hint = "if it is a CT that was cropped or clipped, set 'check_ct: false'"
    if voxels.min() > -INTERCEPT / 2 and not examine(np.asarray(voxels, dtype=np.float32) - INTERCEPT).against():
        hint = f"it would be one with {INTERCEPT:.0f} subtracted: its rescale intercept was lost"
    return f"not a CT in HU: {', '.join(against)}; {hint}"


def _share(values: NDArray[np.float32], bounds: tuple[float, float]) -> float:
    return float(np.mean((values >= bounds[0]) & (values <= bounds[1]))) if values.size else 0.0
