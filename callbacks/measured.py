"""What is measured of a case: its masks on its native grid, its probabilities on the training grid, where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datamodules.native import native_grid, native_label
from datamodules.native_thirds import native_thirds
from datamodules.store import DISTANCE_SCALE, StoredCase
from lightning_modules.metrics import CaseMetrics, case_metrics
from lightning_modules.metrics.calibration import expected_calibration_error
from lightning_modules.metrics.protocol import RING_MM
from lightning_modules.metrics.uncertainty import mean_entropy


def compared(case: StoredCase, prediction: NDArray[np.uint8], tolerance: float) -> CaseMetrics:
    """A mask on a case's native grid against the case's label as it lies on disk.

    Args:
        case: a labelled case.
        prediction: of the record's ``native_shape``, not 0 in the predicted pancreas.
        tolerance: of the NSD, mm.

    Raises:
        CaseError: the label can't be read any more.
    """
    reference = native_label(case.record)
    spacing = native_grid(case.record).spacing.tolist()
    return case_metrics(prediction, reference, spacing, tolerance, native_thirds(case, reference))


def judged(metrics: CaseMetrics, case: StoredCase, probability: NDArray[np.float32], threshold: float) -> CaseMetrics:
    """The same with calibration and uncertainty.

    Nothing is resampled for these two: on the native grid they would tell of the interpolation as well.

    Args:
        metrics: of the case's mask.
        case: a labelled case.
        probability: D×H×W on the stored grid, in [0, 1].
        threshold: above which a voxel is predicted to be pancreas.
    """
    near = case.distance() <= RING_MM * DISTANCE_SCALE
    return replace(
        metrics,
        ece=expected_calibration_error(probability, case.label() > 0, near),
        uncertainty=mean_entropy(probability, threshold),
    )
