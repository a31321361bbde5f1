"""How sure the model is of a case, without its label, and whether that tells where it errs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = TypeVar("Floats", np.float32, np.float64)

LEAST_CASES = 3
"""From which on a rank correlation is told; of two it is always −1 or 1."""


def binary_entropy(probability: NDArray[Floats]) -> NDArray[Floats]:
    """Entropy of each voxel: −p·log₂p − (1−p)·log₂(1−p).

    Args:
        probability: of any shape, in [0, 1].

    Returns:
        The same shape and precision, bit, from 0 to 1.
    """
    bits = _nats(probability)
    bits /= probability.dtype.type(np.log(2))
    return bits


def mean_entropy(probability: NDArray[np.floating], threshold: float = 0.5) -> float:
    """Mean binary entropy over the predicted region S = {p > threshold}: −1/|S| Σ_S p·log₂p + (1−p)·log₂(1−p).

    Mehrtash et al., *Confidence calibration and predictive uncertainty estimation for deep medical image segmentation*,
    IEEE TMI 2020, where it ranks cases by their Dice. It needs no label, so it exists when a new case is predicted. An
    empty prediction has no region; a patient has a pancreas, so it counts as wholly uncertain.

    Args:
        probability: of pancreas, D×H×W in [0, 1].
        threshold: above it a voxel is predicted to be pancreas.

    Returns:
        Bit, from 0 (sure) to 1 (as good as tossed).
    """
    p = probability[probability > threshold].astype(np.float64)
    if not len(p):
        return 1.0
    return float(_nats(p).mean() / math.log(2))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's ρ: Pearson's correlation of the ranks, equal values sharing their mean rank (Spearman, 1904).

    Returns:
        From −1 to 1; None for fewer than :data:`LEAST_CASES` values, or where all of one side are equal.
    """
    if len(one) < LEAST_CASES or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    return float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])


def _nats(probability: NDArray[Floats]) -> NDArray[Floats]:
    # In place: a whole scan has a gigabyte of voxels.
    entropy: NDArray[Floats] = special.entr(probability)
    entropy += special.entr(1 - probability)
    return entropy
