"""Three slices of a case, small enough to keep of every case, from which the report draws its pictures.

The slices lie on the training grid, as the network saw the case. A file ``.npz`` holds, for each of the planes
``axial``, ``coronal`` and ``sagittal``, uint8 arrays ``<plane>_image`` (grey), ``_label`` and ``_prediction``
(0 or 1) and ``_uncertainty`` (0 to 255), rows from top to bottom as radiologists look at them (the patient's right
on the left), and ``<plane>_aspect``, the height of a pixel over its width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callbacks.seen import Seen, around, grey, uncertainty
from datamodules.atomic import atomic_file

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The axis of D, H, W that a plane cuts."""
SIDE_MM = 60.0
"""Shown around the organ on each side."""
MOST_PIXELS = 160
"""Longest side of a kept slice; beyond it, every second voxel is kept, every third, …"""


def write_overlay(path: Path, seen: Seen) -> None:
    """Keep the slices through the largest sections of a case's label (or prediction where there is no label)."""
    image, label, prediction, spacing = seen.image, seen.label, seen.prediction, seen.spacing
    organ = label if label.any() else prediction
    spans = [around(organ.sum(axis=_others(axis)), spacing[axis], SIDE_MM) for axis in range(3)]
    arrays: dict[str, NDArray[np.generic]] = {}
    for plane, axis in PLANES.items():
        place = int(organ.sum(axis=_others(axis)).argmax()) if organ.any() else organ.shape[axis] // 2
        cut = tuple(place if a == axis else slice(*spans[a]) for a in range(3))
        # Seen from the front or from the feet: right on the left, front and top upwards.
        columns, rows = _others(axis)
        step = max(1, -(-max(spans[a][1] - spans[a][0] for a in (columns, rows)) // MOST_PIXELS))
        thinned = (slice(None, None, -step), slice(None, None, -step))
        arrays |= {
            f"{plane}_image": grey(image[cut][thinned].T),
            f"{plane}_label": label[cut][thinned].T.astype(np.uint8),
            f"{plane}_prediction": prediction[cut][thinned].T.astype(np.uint8),
            f"{plane}_uncertainty": (uncertainty(seen.probability[cut][thinned].T) * 255).round().astype(np.uint8),
            f"{plane}_aspect": np.array(spacing[rows] / spacing[columns]),
        }
    with atomic_file(path, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # names are ours and none is allow_pickle


def _others(axis: int) -> tuple[int, int]:
    first, second = (a for a in range(3) if a != axis)
    return first, second
