"""Two masks of one case, compared on the case's native grid.

Empty masks never give NaN and are never dropped from a mean:

* both empty: Dice, NSD, band Dice, precision and recall 1, distances 0;
* one of the two empty (a *failure*): Dice, NSD, band Dice, precision and recall 0, distances = the volume's diagonal
  in mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_modules.metrics.band import band_dice
from lightning_modules.metrics.protocol import TOLERANCE_MM
from lightning_modules.metrics.record import THIRDS, CaseMetrics
from lightning_modules.metrics.surfaces import Mask, SurfaceDistances


def case_metrics(
    prediction: NDArray[np.generic],
    reference: NDArray[np.generic],
    spacing: Sequence[float],
    tolerance: float = TOLERANCE_MM,
    thirds: NDArray[np.integer] | None = None,
) -> CaseMetrics:
    """Compare two binary volumes.

    Args:
        prediction: D×H×W, zero outside the predicted pancreas.
        reference: D×H×W, zero outside the pancreas.
        spacing: of the voxels along D, H, W in mm.
        tolerance: of the NSD in mm.
        thirds: 0 head, 1 body, 2 tail of each of the reference's N voxels in C order; None tells no recall by third.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
    predicted: Mask = prediction != 0
    present: Mask = reference != 0
    voxel_ml = math.prod(spacing) / 1000
    found = predicted[present]
    p, r, overlap = int(predicted.sum()), len(found), int(found.sum())
    if p and r:
        surfaces = SurfaceDistances.between(predicted, present, spacing)
        nsd, hd95, assd = surfaces.nsd(tolerance), surfaces.hausdorff(0.95), surfaces.mean()
        dice, precision, recall = 2 * overlap / (p + r), overlap / p, overlap / r
        band = band_dice(predicted, present, spacing)
    else:
        dice = nsd = precision = recall = band = float(p == r)
        hd95 = assd = 0.0 if p == r else _diagonal(predicted.shape, spacing)
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
        band_dice=band,
        volume_error_ml=(p - r) * voxel_ml,
        relative_volume_error=(p - r) / r if r else None if p else 0.0,
        **({} if thirds is None else _recall_by_third(found, thirds)),
    )


def _recall_by_third(found: NDArray[np.bool_], thirds: NDArray[np.integer]) -> dict[str, float | None]:
    """|P∩Rₖ| / |Rₖ|; None where the reference has no voxel there.

    Args:
        found: N, which of the reference's voxels were predicted.
        thirds: N, 0 to 2.
    """
    there, hit = np.bincount(thirds, minlength=3), np.bincount(thirds[found], minlength=3)
    return {name: int(hit[k]) / int(there[k]) if there[k] else None for k, name in enumerate(THIRDS)}


def _diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    return math.sqrt(sum((n * s) ** 2 for n, s in zip(shape, spacing, strict=True)))
