"""What a case shows of its site: the HU of pancreas and surroundings, the grid, what is cut off.

For the data card alone. Measured on the stored grid; nothing of it enters training, a choice or the id of a run.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import UsageError
from datamodules.store import DISTANCE_SCALE, CaseRecord, StoredCase

VERSION = 2
"""Counts changes of what is measured here: older statistics are measured anew."""
STATISTICS = f"statistics-{VERSION}.json"
"""In a case's folder in the store."""
RING = 5.0
"""Mm around the pancreas in which its surroundings are measured."""
VESSELS = 15.0
"""Mm around the pancreas in which its vessels are looked for: the spine lies farther."""
FAT = (-150.0, -30.0)
"""HU of fat with some tissue in its voxels."""
BINS = (-150, 300, 10)
"""First, last and width in HU of the histograms."""
PERCENTILES = (5, 25, 50, 75, 95)

Measured = dict[str, Any]


def measure(case: StoredCase) -> Measured:
    """The statistics of a labelled case, as plain containers.

    Returns:
        ``pancreas`` and ``ring``: ``percentiles`` of HU (:data:`PERCENTILES`) and ``histogram`` (counts, see
        :data:`BINS`; what is beyond is in the last ones); ``vessels``: HU that one voxel in 200 within
        :data:`VESSELS` mm exceeds; ``fat``: share of the ring; ``phase``; ``cut_off``: whether the label reaches
        the border of the volume; ``slice``: index along z of the slice with most of the label.
    """
    image, label = case.image(), case.label() > 0
    distance = case.distance().astype(np.float32) / DISTANCE_SCALE
    inside, ring = image[label], image[(distance > 0) & (distance <= RING)]
    near = image[(distance > 0) & (distance <= VESSELS)]
    vessels = float(np.percentile(near, 99.5)) if near.size else float("nan")
    pancreas = float(np.median(inside))
    sides = [label.take(place, axis).any() for axis in range(3) for place in (0, -1)]
    return {
        "pancreas": _distribution(inside),
        "ring": _distribution(ring),
        "vessels": round(vessels, 1) if near.size else None,
        "fat": round(float(np.mean((ring >= FAT[0]) & (ring <= FAT[1]))), 4) if ring.size else None,
        "phase": phase(pancreas, vessels),
        "cut_off": bool(any(sides)),
        "slice": int(label.sum(axis=(0, 1)).argmax()),
    }


def phase(pancreas: float, vessels: float) -> str:
    """The contrast phase, as far as HU tell: by the organ's median and its brightest surroundings.

    Vessels measure about 40 HU native, above 200 in the arterial and pancreatic phases, 130 to 200 in the portal
    one (the literature is in :mod:`datamodules.anatomy.tissue`); what has been drunk, calcium or noise may mislead.
    """
    if not np.isfinite(vessels):
        return "unclear"
    if pancreas < 65 and vessels < 115:
        return "native"
    if vessels >= 205 or pancreas >= 115:
        return "arterial or pancreatic"
    return "portal venous" if vessels >= 115 else "unclear"


def geometry(record: CaseRecord) -> Measured:
    """Of a case's own grid: ``spacing`` and ``size`` along x, y, z of the patient, ``orientation`` of its files."""
    from nibabel.orientations import aff2axcodes, io_orientation

    affine = np.array(record.native_affine)
    order = np.argsort(io_orientation(affine)[:, 0])
    edges = np.linalg.norm(affine[:3, :3], axis=0)[order]
    return {
        "spacing": [round(float(edge), 3) for edge in edges],
        "size": [int(record.native_shape[axis]) for axis in order],
        "orientation": "".join(aff2axcodes(affine)),
    }


def read(case: StoredCase) -> Measured:
    """The statistics that preparation has kept of a case.

    Raises:
        UsageError: the file is damaged.
    """
    path = case.folder / STATISTICS
    try:
        values: Measured = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: can't be read ({error}); remove it, and `pansite prepare` makes it anew.") from error
    return values


def _distribution(values: NDArray[np.int16]) -> Measured:
    first, last, width = BINS
    counts, _ = np.histogram(values.clip(first, last - 1), bins=np.arange(first, last + 1, width))
    found = np.percentile(values, PERCENTILES).tolist() if values.size else []
    return {"percentiles": [round(value, 1) for value in found], "histogram": counts.tolist()}
