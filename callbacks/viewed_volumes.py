"""A case's surroundings of the organ, small enough to keep of every case, for the report's slice viewer.

They lie on the training grid, thinned where it is fine. A file ``.npz`` holds uint8 arrays Z×Y×X as radiologists look
at them, from top to bottom, front to back and the patient's right to left: ``image`` (grey) and ``masks`` (bit 0 the
label, bit 1 the prediction, above them 16 levels of uncertainty), and ``spacing``, mm along Z, Y, X.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from callbacks.overlays import GREY_STEP, Span, around
from datamodules.atomic import atomic_file

SIDE_MM = 24.0
"""Shown around the label on each side."""
FARTHEST_MM = 60.0
"""Shown around it where something is predicted there."""
MOST_VOXELS = 128
"""Longest side that is kept; beyond it, every second voxel along an axis is kept, every third, …"""
LEVELS = 15
"""The highest level of uncertainty."""


def write_volume(
    path: Path,
    image: NDArray[np.float32],
    label: NDArray[np.bool_],
    probability: NDArray[np.float32],
    spacing: tuple[float, float, float],
) -> None:
    """Keep what lies around a case's label and prediction.

    Args:
        path: the file.
        image: D×H×W in [0, 1], axes left to right, posterior to anterior, upwards.
        label: D×H×W.
        probability: D×H×W in [0, 1].
        spacing: mm along D, H, W.
    """
    prediction = probability > 0.5
    spans = _spans(label, prediction, spacing)
    # Voxels end up as near to cubes as whole steps allow.
    finest = max((last - first) * edge for (first, last), edge in zip(spans, spacing, strict=True)) / MOST_VOXELS
    steps = [max(1, int(np.ceil(finest / edge - 1e-6))) for edge in spacing]
    cut = tuple(slice(*span) for span in spans)
    seen = tuple(slice(None, None, -step) for step in steps)

    p = probability[cut][seen].clip(0, 1).astype(np.float64)
    entropy = ((entr(p) + entr(1 - p)) / np.log(2)).clip(0, 1)
    masks = label[cut][seen] + 2 * prediction[cut][seen] + 4 * (entropy * LEVELS).round().astype(np.uint8)
    grey = (image[cut][seen].clip(0, 1) * (255 // GREY_STEP)).round().astype(np.uint8) * GREY_STEP
    edges = np.array([edge * step for edge, step in zip(spacing, steps, strict=True)][::-1])
    with atomic_file(path, "wb") as file:
        np.savez_compressed(file, image=grey.T, masks=masks.astype(np.uint8).T, spacing=edges)


def _spans(label: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: tuple[float, float, float]) -> list[Span]:
    """What is shown along each axis: the label with its surroundings, and what is predicted not far from there."""
    if not label.any() or not prediction.any():
        return _around(label | prediction, spacing, SIDE_MM)
    spans, reach = _around(label, spacing, SIDE_MM), _around(label, spacing, FARTHEST_MM)
    near = prediction[tuple(slice(*span) for span in reach)]
    if not near.any():
        return spans
    found = _around(near, spacing, SIDE_MM / 4)
    return [
        (min(first, lowest + start), max(last, lowest + end))
        for (first, last), (lowest, _), (start, end) in zip(spans, reach, found, strict=True)
    ]


def _around(mask: NDArray[np.bool_], spacing: tuple[float, float, float], side: float) -> list[Span]:
    return [around(mask.sum(axis=tuple({0, 1, 2} - {axis})), spacing[axis], side) for axis in range(3)]
