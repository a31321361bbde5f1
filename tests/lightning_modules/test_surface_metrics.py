"""Surface metrics equal DeepMind's on any grid, and keep their bound to those of voxels."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from random_masks import Mask, Pair, Spacing, pairs

from lightning_modules.metrics import case_metrics
from lightning_modules.metrics.surfaces import SurfaceDistances

TIE = 1e-3
"""Per cent by which a percentile is varied: rounding decides on which side of it an element of the surface falls."""


def oracle(prediction: Mask, reference: Mask, spacing: Spacing) -> dict[str, Any]:
    """DeepMind's distances; its release on PyPI is of 2018 and names what NumPy and SciPy have since renamed."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", DeprecationWarning)
        patch.setattr(np, "Inf", np.inf, raising=False)
        found: dict[str, Any] = surface_distance.compute_surface_distances(reference, prediction, spacing)
    return found


def assd(found: dict[str, Any]) -> float:
    """Both of the oracle's mean distances, weighed by the area of their surfaces."""
    means = surface_distance.compute_average_surface_distance(found)
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    return float((means[0] * areas[0] + means[1] * areas[1]) / sum(areas))


@settings(max_examples=80, deadline=None)
@given(pairs(empty=False), st.sampled_from([1.03, 2.01, 3.97]))
def test_nsd_hd95_and_assd_equal_deepminds(pair: Pair, tolerance: float) -> None:
    prediction, reference, spacing = pair
    ours, theirs = case_metrics(prediction, reference, spacing, tolerance), oracle(prediction, reference, spacing)
    expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
    assert ours.nsd == pytest.approx(expected, abs=1e-6)
    assert ours.assd == pytest.approx(assd(theirs), rel=1e-6, abs=1e-9)
    low, high = (surface_distance.compute_robust_hausdorff(theirs, 95 + tie) for tie in (-TIE, TIE))
    assert low - 1e-9 <= ours.hd95 <= high + 1e-9


@settings(max_examples=40, deadline=None)
@given(pairs(empty=False), st.sampled_from([(1.0, 1.0, 1.0), (0.5, 0.5, 2.0), (0.4, 0.4, 1.2)]))
def test_a_distance_that_is_the_tolerance_is_within_it(pair: Pair, spacing: Spacing) -> None:
    """Distances of 2 mm abound on these grids; where 2 mm is 5 voxels of 0.4 mm, rounding must not decide."""
    prediction, reference, _ = pair
    expected = surface_distance.compute_surface_dice_at_tolerance(oracle(prediction, reference, spacing), 2.0 + 1e-9)
    assert case_metrics(prediction, reference, spacing, 2.0).nsd == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(pairs())
def test_where_the_oracle_has_no_distance_the_policy_has_the_diagonal(pair: Pair) -> None:
    """DeepMind's distances to an empty mask are infinite, and of two empty ones there are none."""
    prediction, _, spacing = pair
    nothing = np.zeros_like(prediction)
    theirs = oracle(prediction, nothing, spacing)
    ours = case_metrics(prediction, nothing, spacing)
    assert len(theirs["distances_gt_to_pred"]) == 0
    if prediction.any():
        assert np.isinf(theirs["distances_pred_to_gt"]).all()
        diagonal = math.sqrt(sum((n * s) ** 2 for n, s in zip(prediction.shape, spacing, strict=True)))
        assert ours.hd95 == ours.assd == pytest.approx(diagonal)
        assert ours.nsd == 0
    else:
        assert (ours.hd95, ours.assd, ours.nsd) == (0, 0, 1)


@settings(max_examples=40, deadline=None)
@given(pairs(empty=False))
def test_the_largest_distance_is_that_between_voxels_up_to_a_voxels_diagonal(pair: Pair) -> None:
    """MONAI measures between the centres of the outermost voxels, here between corners."""
    prediction, reference, spacing = pair
    ours = SurfaceDistances.between(prediction, reference, spacing).hausdorff(1.0)
    # MONAI's edge of a mask that fills its volume is empty; beyond the border is outside, as it is here.
    padded = [torch.from_numpy(np.pad(mask, 1))[None, None] for mask in (prediction, reference)]
    theirs = float(compute_hausdorff_distance(*padded, include_background=True, spacing=spacing))
    assert abs(ours - theirs) <= np.linalg.norm(spacing) + 1e-4


@settings(max_examples=20, deadline=None)
@given(pairs(empty=False))
def test_nsd_equals_monai_with_sub_voxels(pair: Pair) -> None:
    prediction, reference, spacing = pair
    # No distance on these grids is just as long: MONAI's single precision decides a tie either way.
    tolerance = 2.0037
    theirs = compute_surface_dice(
        torch.from_numpy(prediction)[None, None], torch.from_numpy(reference)[None, None], [tolerance],
        include_background=True, spacing=spacing, use_subvoxels=True,
    )  # fmt: skip
    assert case_metrics(prediction, reference, spacing, tolerance).nsd == pytest.approx(float(theirs), abs=1e-4)


def test_percentiles_and_means_have_no_such_bound() -> None:
    """A plate of many voxels and little area beyond it: by voxels HD95 is that of the spur, by area it is not."""
    reference = np.zeros((40, 24, 24), bool)
    reference[2:8, 2:22, 2:22] = True
    prediction = reference.copy()
    prediction[8:38, 11:13, 11:13] = True
    spacing = (1.0, 1.0, 1.0)
    areas = oracle(prediction, reference, spacing)
    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    by_voxels = [
        float(compute_hausdorff_distance(*masks, include_background=True, percentile=p, spacing=spacing))
        for p in np.arange(70, 100)
    ]
    by_area = [surface_distance.compute_robust_hausdorff(areas, p) for p in np.arange(70, 100)]
    assert max(abs(np.subtract(by_voxels, by_area))) > np.linalg.norm(spacing)


def test_a_shift_of_one_voxel_is_measured_in_millimetres_along_its_axis() -> None:
    plate = np.zeros((12, 12, 12), bool)
    plate[4:8, 4:8, 4:8] = True
    for axis, step in enumerate((0.7, 1.3, 5.0)):
        moved = np.roll(plate, 1, axis=axis)
        assert case_metrics(plate, moved, (0.7, 1.3, 5.0)).hd95 == pytest.approx(step, rel=1e-5)


def test_no_warning_of_a_library_reaches_the_user() -> None:
    mask = np.ones((3, 3, 3), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert case_metrics(mask, mask, (1, 1, 1)).nsd == 1
