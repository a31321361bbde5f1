"""A case as its pictures are made from it: grey, uncertainty, and where the organ lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_modules.metrics.uncertainty import binary_entropy

Span = tuple[int, int]

GREY_STEP = 4
"""Grey levels are kept in steps of this: not to be seen, and noise takes a third less space."""


@dataclass(frozen=True)
class Seen:
    """A case on the training grid, as the network saw it.

    Attributes:
        image: D×H×W in [0, 1], axes left to right, posterior to anterior, upwards.
        label: D×H×W.
        probability: D×H×W in [0, 1].
        spacing: mm along D, H, W.
    """

    image: NDArray[np.float32]
    label: NDArray[np.bool_]
    probability: NDArray[np.float32]
    spacing: tuple[float, float, float]

    @property
    def prediction(self) -> NDArray[np.bool_]:
        """D×H×W."""
        return self.probability > 0.5


def grey(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Part of an image as grey levels."""
    return (image.clip(0, 1) * (255 // GREY_STEP)).round().astype(np.uint8) * GREY_STEP


def uncertainty(probability: NDArray[np.float32]) -> NDArray[np.float64]:
    """Part of a probability map as bits, from 0 to 1."""
    return binary_entropy(probability.clip(0, 1).astype(np.float64)).clip(0, 1)


def around(profile: NDArray[np.int64], spacing: float, side: float) -> Span:
    """The organ's extent along an axis and ``side`` mm on each side; all of it where there is no organ."""
    found = np.flatnonzero(profile)
    if not len(found):
        return 0, len(profile)
    margin = int(np.ceil(side / spacing))
    return max(0, int(found[0]) - margin), min(len(profile), int(found[-1]) + 1 + margin)
