"""What is kept of each case for those who look at it: three slices, and the organ's surroundings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from callbacks.overlays import write_overlay
from callbacks.rows import Evaluation
from callbacks.seen import Seen
from callbacks.viewed_volumes import write_volume
from datamodules.store import CaseRecord


def keep_views(
    evaluation: Evaluation,
    record: CaseRecord,
    image: NDArray[np.float32],
    label: NDArray[np.bool_],
    probability: NDArray[np.float32],
) -> None:
    """Write a case's slices and its volume.

    Args:
        evaluation: says where.
        record: the case.
        image: D×H×W in [0, 1], on the training grid.
        label: D×H×W.
        probability: D×H×W in [0, 1].
    """
    seen = Seen(image, label, probability, record.spacing)
    write_overlay(evaluation.overlay_path(record.site, record.case), seen)
    write_volume(evaluation.volume_path(record.site, record.case), seen)
