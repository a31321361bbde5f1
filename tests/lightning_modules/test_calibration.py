"""Calibration and uncertainty of a case equal independent oracles and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchmetrics.classification import BinaryCalibrationError

from lightning_modules.metrics.calibration import BINS, expected_calibration_error
from lightning_modules.metrics.uncertainty import mean_entropy, rank_correlation
from lightning_modules.regions.uncertainty import entropy

SHAPE = (6, 7, 8)
seeds = st.integers(0, 2**32)


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([0.1, 1.0, 6.0]))
def test_ece_equals_torchmetrics_and_sees_its_region_alone(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(0, scale, SHAPE))
    probability = logits.sigmoid().numpy().clip(0, 1 - 1e-9).astype(np.float32)
    # torchmetrics gives a probability that rounds to 1 a bin of its own.
    probability = np.minimum(probability, np.float32(1 - 1e-6))
    label, region = generator.random(SHAPE) < 0.4, generator.random(SHAPE) < 0.5
    theirs = BinaryCalibrationError(n_bins=BINS, norm="l1")
    expected = theirs(torch.from_numpy(probability[region]), torch.from_numpy(label[region].astype(np.int64)))
    assert expected_calibration_error(probability, label, region) == pytest.approx(float(expected), abs=1e-5)


def test_ece_is_0_where_frequencies_are_right_and_1_where_all_is_sure_and_wrong() -> None:
    label = np.arange(100).reshape(4, 5, 5) % 4 == 0
    everywhere = np.ones_like(label)
    assert expected_calibration_error(np.full(label.shape, 0.25), label, everywhere) == pytest.approx(0)
    assert expected_calibration_error(label.astype(np.float32), label, everywhere) == 0
    assert expected_calibration_error((~label).astype(np.float32), label, everywhere) == 1
    assert expected_calibration_error(label.astype(np.float32), label, ~everywhere) is None


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_entropy_of_a_case_is_the_mean_of_what_the_model_says_of_the_region_it_predicts(seed: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, SHAPE))
    expected = float(entropy(logits)[logits > 0].mean())
    assert mean_entropy(logits.sigmoid().numpy()) == pytest.approx(expected, abs=1e-9)


def test_a_sure_prediction_has_no_entropy_and_none_at_all_is_wholly_uncertain() -> None:
    probability = np.zeros(SHAPE, np.float32)
    assert mean_entropy(probability) == 1
    probability[0] = 1
    assert mean_entropy(probability) == 0
    probability[1] = 0.5 + 1e-6
    assert mean_entropy(probability) == pytest.approx(0.5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=3, max_size=20))
def test_the_rank_correlation_equals_scipys_with_ties(pairs: list[tuple[int, float]]) -> None:
    one, other = [float(a) for a, _ in pairs], [b for _, b in pairs]
    found = rank_correlation(one, other)
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(one, other).statistic)


def test_a_rank_correlation_of_two_cases_tells_nothing() -> None:
    assert rank_correlation([0.1, 0.2], [1.0, 2.0]) is None
    assert rank_correlation([0.1, 0.2, 0.3], [1.0, 2.0, math.pi]) == pytest.approx(1)
