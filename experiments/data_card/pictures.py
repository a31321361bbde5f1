"""Axial slices of cases, all at one scale and in one window, with the label's outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from experiments.data_card.model import CardCase
from experiments.report.overlays import contours, png

FIELD = (380.0, 280.0)
"""Mm across and front to back that a picture shows, about the label's middle across and the volume's front to back."""
WINDOW = (-160.0, 240.0)
"""HU that are black and white."""


@dataclass(frozen=True)
class Picture:
    """A slice of a case.

    Attributes:
        case: the case.
        width: pixels.
        height: pixels.
        image: PNG in base64.
        outline: path data of the label's contours.
    """

    case: CardCase
    width: int
    height: int
    image: str
    outline: str


def picture(case: CardCase, width: int) -> Picture:
    """The axial slice with most of the label, the patient's right on the left, so many pixels wide."""
    stored = case.stored
    place = int(case.measured["slice"])
    window = (slice(None), slice(None), slice(place, place + 1))
    # Seen from the feet: rows from the front, columns from the patient's right.
    hu, label = (array[::-1, ::-1, 0].T for array in (stored.image(window), stored.label(window)))
    x, y = stored.record.spacing[:2]
    middle = (np.flatnonzero(label.any(axis=0)).mean() * x, hu.shape[0] * y / 2) if label.any() else (0.0, 0.0)
    size = width, round(width * FIELD[1] / FIELD[0])
    step = FIELD[0] / width
    left, top = middle[0] - FIELD[0] / 2, middle[1] - FIELD[1] / 2
    to_voxels = (step / x, 0, left / x, 0, step / y, top / y)
    low, high = WINDOW
    grey = ((hu.astype(np.float32) - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    shown, mask = (
        Image.fromarray(values).transform(size, Image.Transform.AFFINE, to_voxels, Image.Resampling.BILINEAR)
        for values in (grey, (label > 0).astype(np.uint8) * 255)
    )
    return Picture(case, *size, png(shown), contours((np.asarray(mask) > 127).astype(np.uint8), 1.0, 1.0))
