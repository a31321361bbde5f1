"""A case's surroundings of the organ, small enough to keep of every case, for the report's slice viewer.

They lie on the training grid, thinned where it is fine. A file ``.npz`` holds uint8 arrays Z×Y×X as radiologists look
at them, from top to bottom, front to back and the patient's right to left: ``image`` (grey) and ``masks`` (bit 0 the
label, bit 1 the prediction, above them 16 levels of uncertainty), and ``spacing``, mm along Z, Y, X.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callbacks.seen import Seen, Span, around, grey, uncertainty
from datamodules.atomic import atomic_file

SIDE_MM = 24.0
"""Shown around the label on each side."""
FARTHEST_MM = 60.0
"""Shown around it where something is predicted there."""
MOST_VOXELS = 128
"""Longest side that is kept; beyond it, every second voxel along an axis is kept, every third, …"""
LEVELS = 15
"""The highest level of uncertainty."""


def write_volume(path: Path, seen: Seen) -> None:
    """Keep what lies around a case's label and prediction."""
    label, prediction, spacing = seen.label, seen.prediction, seen.spacing
    spans = _spans(label, prediction, spacing)
    # Voxels end up as near to cubes as whole steps allow.
    finest = max((last - first) * edge for (first, last), edge in zip(spans, spacing, strict=True)) / MOST_VOXELS
    steps = [max(1, int(np.ceil(finest / edge - 1e-6))) for edge in spacing]
    cut = tuple(slice(*span) for span in spans)
    thinned = tuple(slice(None, None, -step) for step in steps)

    levels = (uncertainty(seen.probability[cut][thinned]) * LEVELS).round().astype(np.uint8)
    masks = label[cut][thinned] + 2 * prediction[cut][thinned] + 4 * levels
    edges = np.array([edge * step for edge, step in zip(spacing, steps, strict=True)][::-1])
    with atomic_file(path, "wb") as file:
        np.savez_compressed(file, image=grey(seen.image[cut][thinned]).T, masks=masks.astype(np.uint8).T, spacing=edges)


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
