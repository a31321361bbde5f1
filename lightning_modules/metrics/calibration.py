"""Whether a probability of 0.7 is right seven times in ten."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Of equal width, as in Guo et al."""


def expected_calibration_error(
    probability: NDArray[np.floating], label: NDArray[np.bool_], region: NDArray[np.bool_]
) -> float | None:
    """ECE = Σ_b n_b/n · |mean(y) − mean(p)| over the voxels of bin b, binned by their probability of pancreas.

    Naeini, Cooper and Hauskrecht, *Obtaining well calibrated probabilities using Bayesian binning*, AAAI 2015, with the
    bins of Guo et al., *On calibration of modern neural networks*, ICML 2017. Of a whole CT nearly all voxels are
    plainly no pancreas and any model looks calibrated; so it is told of the organ and its surroundings alone, as
    Mehrtash et al. do (*Confidence calibration and predictive uncertainty estimation for deep medical image
    segmentation*, IEEE TMI 2020).

    Args:
        probability: D×H×W in [0, 1].
        label: D×H×W.
        region: D×H×W, the voxels that count.

    Returns:
        In [0, 1]; None where the region is empty.
    """
    p, y = probability[region].astype(np.float64), label[region]
    if not len(p):
        return None
    bins = np.minimum((p * BINS).astype(np.intp), BINS - 1)
    # n_b · |mean(y) − mean(p)| is |Σy − Σp|.
    apart = np.bincount(bins, weights=y, minlength=BINS) - np.bincount(bins, weights=p, minlength=BINS)
    return float(np.abs(apart).sum() / len(p))
