"""Case metrics equal independent oracles on any grid, and no mask makes them NaN."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_masks import Mask, Pair, pairs
from scipy import ndimage
from scipy.spatial import distance

from lightning_modules.metrics import CaseMetrics, case_metrics
from lightning_modules.metrics.band import band_dice
from lightning_modules.metrics.record import DETAILS, THIRDS

PROBABILISTIC = ("ece", "uncertainty")


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_overlap_equals_scipys(pair: Pair) -> None:
    prediction, reference, spacing = pair
    ours = case_metrics(prediction, reference, spacing)
    if prediction.any() and reference.any():
        assert ours.dice == pytest.approx(1 - distance.dice(prediction.ravel(), reference.ravel()))
        assert ours.precision == pytest.approx(ndimage.mean(reference, prediction, 1))
        assert ours.recall == pytest.approx(ndimage.mean(prediction, reference, 1))
    voxel = math.prod(spacing) / 1000
    volumes = [voxel * float(ndimage.sum_labels(np.ones(mask.shape), mask, 1)) for mask in (prediction, reference)]
    assert [ours.volume_ml, ours.reference_volume_ml] == pytest.approx(volumes)
    assert ours.volume_error_ml == pytest.approx(volumes[0] - volumes[1], abs=1e-9)
    if reference.any():
        assert ours.relative_volume_error == pytest.approx(volumes[0] / volumes[1] - 1)


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_nothing_is_ever_nan_and_everything_keeps_its_range(pair: Pair) -> None:
    a, b, spacing = pair
    ours = case_metrics(a, b, spacing, thirds=np.arange(b.sum()) % 3)
    diagonal = math.sqrt(sum((n * s) ** 2 for n, s in zip(a.shape, spacing, strict=True)))
    assert all(math.isfinite(v) for v in dataclasses.astuple(ours) if v is not None)
    shares = (ours.dice, ours.nsd, ours.precision, ours.recall, ours.band_dice, *recalls(ours))
    assert all(0 <= v <= 1 for v in shares if v is not None)
    assert all(0 <= v <= diagonal + 1e-3 for v in (ours.hd95, ours.assd))
    assert [name for name in DETAILS if getattr(ours, name) is None and name not in PROBABILISTIC] == [
        *(name for place, name in enumerate(THIRDS) if b.sum() <= place),
        *(["relative_volume_error"] if a.any() and not b.any() else []),
    ]


def recalls(metrics: CaseMetrics) -> list[float | None]:
    return [getattr(metrics, name) for name in THIRDS]


@settings(max_examples=40, deadline=None)
@given(pairs(empty=False), st.integers(0, 2**32))
def test_recall_is_the_mean_of_its_thirds_weighed_by_their_volume(pair: Pair, seed: int) -> None:
    prediction, reference, spacing = pair
    volume = np.random.default_rng(seed).choice(3, size=reference.shape, p=[0.6, 0.3, 0.1])
    ours = case_metrics(prediction, reference, spacing, thirds=volume[reference])
    sizes = ndimage.sum_labels(reference, volume, range(3))
    known = [(size, recall) for size, recall in zip(sizes, recalls(ours), strict=True) if recall is not None]
    assert [size > 0 for size in sizes] == [recall is not None for recall in recalls(ours)]
    assert sum(size * recall for size, recall in known) / sizes.sum() == pytest.approx(ours.recall)
    for place, recall in enumerate(recalls(ours)):
        if recall is not None:
            assert recall == pytest.approx(ndimage.mean(prediction, np.where(reference, volume, -1), place))


def test_thirds_that_nobody_knows_have_no_recall() -> None:
    mask = np.ones((2, 3, 4), bool)
    assert recalls(case_metrics(mask, mask, (1, 1, 1))) == [None, None, None]


def near_the_surface(reference: Mask, spacing: tuple[float, float, float], width: float) -> Mask:
    """Voxels at most ``width`` from one on the other side, every voxel compared with every other one."""
    padded = np.pad(reference, 1)
    places = np.argwhere(np.ones_like(padded)) * np.minimum(spacing, width)
    inside = padded.ravel()
    apart = distance.cdist(places, places)
    apart[inside[:, None] == inside[None]] = np.inf
    # Beyond the border there is no voxel of the organ, whatever lies there.
    near = (apart.min(axis=1) <= width + 1e-9).reshape(padded.shape)
    return np.asarray(near[1:-1, 1:-1, 1:-1])


@settings(max_examples=40, deadline=None)
@given(pairs(empty=False), st.sampled_from([0.9, 2.0, 3.0]))
def test_band_dice_equals_the_dice_of_a_band_by_brute_force(pair: Pair, width: float) -> None:
    prediction, reference, spacing = pair
    prediction, reference = prediction[:6, :6, :6], reference[:6, :6, :6]
    if not reference.any():
        return
    band = near_the_surface(reference, spacing, width)
    expected = 1 - distance.dice((prediction & band).ravel(), (reference & band).ravel())
    assert band_dice(prediction, reference, spacing, width) == pytest.approx(expected)


def test_the_core_does_not_make_up_for_the_outline() -> None:
    """The same shell is lost by a large organ and by a small one."""
    bands, dices = [], []
    for size in (10, 30):
        reference = np.pad(np.ones((size,) * 3, bool), 5)
        shrunk = ndimage.binary_erosion(reference, iterations=2)
        ours = case_metrics(shrunk, reference, (1.0, 1.0, 1.0))
        dices.append(ours.dice)
        bands.append(ours.band_dice)
    assert dices[0] < 0.4
    assert dices[1] > 0.75
    assert max(bands) < 0.5


def test_a_band_holds_what_faces_each_other_even_across_thick_slices() -> None:
    reference = np.zeros((8, 8, 5), bool)
    reference[2:6, 2:6, 1:4] = True
    above = reference.copy()
    above[..., 4] = reference[..., 3]
    assert case_metrics(above, reference, (8.0, 8.0, 8.0)).band_dice < 1


def test_a_missed_organ_costs_the_diagonal_and_is_a_failure() -> None:
    """The trap: MONAI's HD95 of an empty prediction is NaN, and a mean that skips it looks good."""
    reference = np.zeros((10, 20, 30), bool)
    reference[3:6, 8:12, 10:20] = True
    missed = case_metrics(np.zeros_like(reference), reference, (1.0, 2.0, 0.5))
    diagonal = math.sqrt(10**2 + 40**2 + 15**2)
    assert (missed.dice, missed.nsd, missed.precision, missed.recall) == (0, 0, 0, 0)
    assert missed.hd95 == missed.assd == pytest.approx(diagonal)
    assert missed.failure
    assert not missed.both_empty

    invented = case_metrics(reference, np.zeros_like(reference), (1.0, 2.0, 0.5))
    assert (invented.dice, invented.nsd, invented.recall) == (0, 0, 0)
    assert invented.hd95 == invented.assd == pytest.approx(diagonal)
    assert invented.failure


def test_two_empty_masks_agree_and_are_told_apart() -> None:
    nothing = np.zeros((4, 5, 6), bool)
    both = case_metrics(nothing, nothing, (1.0, 1.0, 3.0))
    assert (both.dice, both.nsd, both.precision, both.recall, both.hd95, both.assd) == (1, 1, 1, 1, 0, 0)
    assert both.both_empty
    assert not both.failure


def test_masks_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        case_metrics(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), (1, 1, 1))
