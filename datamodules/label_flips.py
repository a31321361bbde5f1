"""How a label whose header can't be trusted lies on its image: every flip is tried, and the HU decide.

The pancreas is soft tissue that lies in fat, so where the mask is right, HU within it are narrow and higher than
those around it. Where it is mirrored it lies across organs, fat, bowel and vertebrae, and there is no such step at
its border, or it leaves the body. Labels are compared in the order of voxels that image and label have on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.layouts.site import Flip

FLIPS: tuple[Flip, ...] = ("none", "i", "j", "k", "ij", "ik", "jk", "ijk")
RING_MM = 5.0
"""How far around the mask is looked."""
CLIPPED = (-150.0, 250.0)
"""HU beyond which bone is no brighter and air no darker."""
SOFT = (-50.0, 250.0)
"""HU of a pancreas, fatty or enhanced."""
LEAST_SCORE, LEAST_MARGIN = 0.3, 0.2
"""Below these a choice is doubtful."""


@dataclass(frozen=True)
class Choice:
    """What the evidence says of a label.

    Attributes:
        flip: the likeliest.
        scores: of every flip: the step of the mean HU at the mask's border in standard deviations, times the share of
            the mask that has a pancreas' HU.
    """

    flip: Flip
    scores: dict[Flip, float]

    @property
    def margin(self) -> float:
        """By how much the likeliest is ahead of the next."""
        first, second = sorted(self.scores.values(), reverse=True)[:2]
        return first - second

    @property
    def doubtful(self) -> bool:
        """Whether the user has to decide."""
        return self.scores[self.flip] < LEAST_SCORE or self.margin < LEAST_MARGIN

    def __str__(self) -> str:
        """The scores, the likeliest first."""
        ordered = sorted(self.scores.items(), key=lambda item: -item[1])
        return ", ".join(f"{flip} {score:.2f}" for flip, score in ordered[:3])


def flipped(voxels: NDArray[Any], flip: Flip) -> NDArray[Any]:
    """The voxels with the named axes reversed: ``i``, ``j``, ``k`` are the first, second and third."""
    return voxels[tuple(slice(None, None, -1 if axis in flip else 1) for axis in "ijk") if flip != "none" else ...]


def judge(mask: NDArray[np.bool_], hu: NDArray[Any], spacing: NDArray[np.float64]) -> Choice:
    """Try every flip of a mask on an image of the same shape.

    Args:
        mask: D×H×W, not empty.
        hu: D×H×W.
        spacing: mm along D, H, W.
    """
    window = _around(mask, spacing)
    inside = mask[window]
    ring = (ndimage.distance_transform_edt(~inside, sampling=spacing) <= RING_MM) & ~inside
    # The flipped mask on the image is the mask on the flipped image.
    scores = {flip: _score(flipped(hu, flip)[window], inside, ring) for flip in FLIPS}
    return Choice(max(FLIPS, key=lambda flip: scores[flip]), scores)


def _around(mask: NDArray[np.bool_], spacing: NDArray[np.float64]) -> tuple[slice, ...]:
    """The mask's box and the ring around it, as far as there is an image."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    margins = np.ceil(RING_MM / spacing).astype(int)
    return tuple(
        slice(max(0, side.start - int(m)), min(n, side.stop + int(m)))
        for side, m, n in zip(box, margins, mask.shape, strict=True)
    )


def _score(hu: NDArray[Any], inside: NDArray[np.bool_], ring: NDArray[np.bool_]) -> float:
    within, around = (hu[part].astype(np.float64).clip(*CLIPPED) for part in (inside, ring))
    if not around.size:
        return 0.0
    spread = np.sqrt((within.var() + around.var()) / 2) + 1.0
    soft = np.mean((within > SOFT[0]) & (within < SOFT[1]))
    return float((within.mean() - around.mean()) / spread * soft)
