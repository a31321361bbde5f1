"""How well a binary prediction agrees with the reference of one case, on the case's native grid.

Surfaces are found at sub-voxel corners and weighed by their area as DeepMind's ``surface-distance`` does (Nikolov
et al., 2021), with MONAI's table of areas; NSD, HD95 and ASSD share one search for nearest points.

Empty masks never give NaN and are never dropped from a mean:

* both empty: Dice, NSD, precision and recall 1, distances 0;
* one of the two empty (a *failure*): Dice, NSD, precision and recall 0, distances = the volume's diagonal in mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.metrics.utils import get_code_to_measure_table
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Reals = NDArray[np.float64]

TOLERANCE_MM = 2.0
"""Default tolerance of the normalised surface Dice."""


@dataclass(frozen=True)
class CaseMetrics:
    """Agreement of one prediction with its reference.

    Attributes:
        dice: 2|P∩R| / (|P|+|R|), in [0, 1].
        nsd: normalised surface Dice, in [0, 1]: share of both surfaces within the tolerance of the other one.
        hd95: larger of the two directed 95th percentiles of the surface distances, mm.
        assd: mean distance over both surfaces, mm.
        precision: |P∩R| / |P|, in [0, 1].
        recall: |P∩R| / |R|, in [0, 1].
        volume_ml: volume of the prediction.
        reference_volume_ml: volume of the reference.
        empty_prediction: nothing was predicted.
        empty_reference: there is nothing to predict.
    """

    dice: float
    nsd: float
    hd95: float
    assd: float
    precision: float
    recall: float
    volume_ml: float
    reference_volume_ml: float
    empty_prediction: bool
    empty_reference: bool

    @property
    def failure(self) -> bool:
        """The prediction or the reference is empty, and the other one is not."""
        return self.empty_prediction != self.empty_reference

    @property
    def both_empty(self) -> bool:
        """Prediction and reference are empty."""
        return self.empty_prediction and self.empty_reference


def case_metrics(
    prediction: NDArray[np.generic],
    reference: NDArray[np.generic],
    spacing: Sequence[float],
    tolerance: float = TOLERANCE_MM,
) -> CaseMetrics:
    """Compare two binary volumes.

    Args:
        prediction: D×H×W, zero outside the predicted pancreas.
        reference: D×H×W, zero outside the pancreas.
        spacing: of the voxels along D, H, W in mm.
        tolerance: of the NSD in mm.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
    predicted: Mask = prediction != 0
    present: Mask = reference != 0
    voxel_ml = math.prod(spacing) / 1000
    p, r = int(predicted.sum()), int(present.sum())
    overlap = int((predicted & present).sum())
    if p and r:
        nsd, hd95, assd = _surface_metrics(predicted, present, spacing, tolerance)
        dice, precision, recall = 2 * overlap / (p + r), overlap / p, overlap / r
    else:
        agree = float(p == r)
        dice = nsd = precision = recall = agree
        hd95 = assd = 0.0 if agree else _diagonal(predicted.shape, spacing)
    return CaseMetrics(
        dice=dice,
        nsd=nsd,
        hd95=hd95,
        assd=assd,
        precision=precision,
        recall=recall,
        volume_ml=p * voxel_ml,
        reference_volume_ml=r * voxel_ml,
        empty_prediction=p == 0,
        empty_reference=r == 0,
    )


def _surface_metrics(
    predicted: Mask, present: Mask, spacing: Sequence[float], tolerance: float
) -> tuple[float, float, float]:
    """NSD, HD95 and ASSD of two masks that are not empty."""
    at_p, areas_p = _surface(predicted, spacing)
    at_r, areas_r = _surface(present, spacing)
    to_r, to_p = KDTree(at_r, leafsize=32).query(at_p)[0], KDTree(at_p, leafsize=32).query(at_r)[0]
    total = areas_p.sum() + areas_r.sum()
    within = areas_p[to_r <= tolerance].sum() + areas_r[to_p <= tolerance].sum()
    weighted = (to_r * areas_p).sum() + (to_p * areas_r).sum()
    hd95 = max(_percentile(to_r, areas_p, 0.95), _percentile(to_p, areas_r, 0.95))
    return min(1.0, float(within / total)), hd95, float(weighted / total)


def _surface(mask: Mask, spacing: Sequence[float]) -> tuple[Reals, Reals]:
    """The voxel corners at which a mask changes: N×3 positions in mm, and the N areas in mm² of the surface there.

    MONAI's own functions hold several float copies of the box around *both* masks: one stray voxel in a far corner
    of a whole CT costs them 7 GiB. Codes in one byte a voxel, and points from there on, do with a twentieth.
    """
    table, kernel = get_code_to_measure_table(tuple(float(s) for s in spacing), device="cpu")
    box = _bounding_box(mask)
    padded = np.pad(mask[box].view(np.uint8), 1)
    d, h, w = (n - 1 for n in padded.shape)
    code = np.zeros((d, h, w), np.uint8)
    for (i, j, k), bit in np.ndenumerate(kernel[0, 0].numpy().astype(np.uint8)):
        code += padded[i : i + d, j : j + h, k : k + w] * bit
    index = np.argwhere((code != 0) & (code != 255))
    first = np.array([span.start for span in box])
    areas: Reals = table.numpy().astype(np.float64)[code[tuple(index.T)]]
    return (index + first) * np.asarray(spacing, np.float64), areas


def _percentile(distances: Reals, areas: Reals, share: float) -> float:
    """The distance within which ``share`` of the surface's area lies."""
    order = np.argsort(distances, kind="stable")
    reached = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(int(np.searchsorted(reached, share)), len(order) - 1)])


def _bounding_box(mask: Mask) -> tuple[slice, slice, slice]:
    """The box that holds all of ``mask``, which is not empty."""
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    d, h, w = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return d, h, w


def _diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    return math.sqrt(sum((n * s) ** 2 for n, s in zip(shape, spacing, strict=True)))
