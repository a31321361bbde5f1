"""Case metrics equal independent oracles on any grid, and no mask makes them NaN."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_surface_dice
from numpy.typing import NDArray
from scipy import ndimage

from lightning_modules.metrics import case_metrics

Mask = NDArray[np.bool_]

spacings = st.tuples(*[st.floats(0.4, 5.0).map(lambda s: round(s, 2))] * 3)


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, int, int]) -> Mask:
    """A random blob, possibly empty, full, scattered or touching the border."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    field = ndimage.gaussian_filter(generator.random(shape), draw(st.sampled_from([0.0, 0.8, 1.5])))
    share = draw(st.sampled_from([0.0, 0.02, 0.3, 0.7, 1.0]))
    return np.asarray(field <= np.quantile(field, share)) if share else np.zeros(shape, bool)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Mask, Mask, tuple[float, float, float]]:
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    return draw(masks(shape)), draw(masks(shape)), draw(spacings)


def corners(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index and 8-bit neighbour code of every voxel corner at which ``mask`` changes."""
    padded = np.pad(mask, 1).astype(int)
    d, h, w = (n - 1 for n in padded.shape)
    code = np.zeros((d, h, w), int)
    for bit, (i, j, k) in enumerate(np.ndindex(2, 2, 2)):
        code += padded[i : i + d, j : j + h, k : k + w] << (7 - bit)
    index = np.argwhere((code != 0) & (code != 255))
    return index, code[tuple(index.T)]


def brute_force(a: Mask, b: Mask, spacing: tuple[float, float, float], tolerance: float) -> dict[str, float]:
    """Surface metrics by comparing every corner with every corner; areas from DeepMind's table."""
    tables = pytest.importorskip("surface_distance.lookup_tables", reason="surface-distance is not installed")
    area = np.asarray(tables.create_table_neighbour_code_to_surface_area(spacing))
    (at_a, code_a), (at_b, code_b) = corners(a), corners(b)
    apart = np.linalg.norm((at_a[:, None] - at_b[None]) * np.asarray(spacing), axis=-1)
    distance = (apart.min(axis=1), apart.min(axis=0))
    weight = (area[code_a], area[code_b])
    total = weight[0].sum() + weight[1].sum()

    def percentile(share: float) -> float:
        found = []
        for d, w in zip(distance, weight, strict=True):
            order = np.argsort(d)
            reached = np.cumsum(w[order]) / w.sum()
            found.append(d[order][min(np.searchsorted(reached, share), len(d) - 1)])
        return float(max(found))

    return {
        "nsd": float(sum((w * (d <= tolerance)).sum() for d, w in zip(distance, weight, strict=True)) / total),
        "assd": float(sum((w * d).sum() for d, w in zip(distance, weight, strict=True)) / total),
        "hd95_low": percentile(0.95 - 1e-5),
        "hd95_high": percentile(0.95 + 1e-5),
    }


@settings(max_examples=60, deadline=None)
@given(pairs(), st.sampled_from([1.03, 2.01, 3.97]))
def test_surface_metrics_equal_a_brute_force_over_all_corners(
    pair: tuple[Mask, Mask, tuple[float, float, float]], tolerance: float
) -> None:
    a, b, spacing = pair
    if not (a.any() and b.any()):
        return
    ours = case_metrics(a, b, spacing, tolerance)
    oracle = brute_force(a, b, spacing, tolerance)
    assert ours.nsd == pytest.approx(oracle["nsd"], abs=1e-4)
    assert ours.assd == pytest.approx(oracle["assd"], rel=1e-4, abs=1e-4)
    assert oracle["hd95_low"] - 1e-4 <= ours.hd95 <= oracle["hd95_high"] + 1e-4


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_overlap_metrics_equal_counting(pair: tuple[Mask, Mask, tuple[float, float, float]]) -> None:
    a, b, spacing = pair
    ours = case_metrics(a, b, spacing)
    where_a = {tuple(v) for v in np.argwhere(a).tolist()}
    where_b = {tuple(v) for v in np.argwhere(b).tolist()}
    if where_a and where_b:
        both = len(where_a & where_b)
        assert ours.dice == pytest.approx(2 * both / (len(where_a) + len(where_b)))
        assert ours.precision == pytest.approx(both / len(where_a))
        assert ours.recall == pytest.approx(both / len(where_b))
    assert ours.volume_ml == pytest.approx(len(where_a) * math.prod(spacing) / 1000)
    assert ours.reference_volume_ml == pytest.approx(len(where_b) * math.prod(spacing) / 1000)


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_nothing_is_ever_nan_and_everything_keeps_its_range(
    pair: tuple[Mask, Mask, tuple[float, float, float]],
) -> None:
    a, b, spacing = pair
    ours = case_metrics(a, b, spacing)
    diagonal = math.sqrt(sum((n * s) ** 2 for n, s in zip(a.shape, spacing, strict=True)))
    assert all(math.isfinite(v) for v in dataclasses.astuple(ours))
    assert all(0 <= v <= 1 for v in (ours.dice, ours.nsd, ours.precision, ours.recall))
    assert all(0 <= v <= diagonal + 1e-3 for v in (ours.hd95, ours.assd))


@settings(max_examples=25, deadline=None)
@given(pairs())
def test_nsd_equals_monai_with_sub_voxels(pair: tuple[Mask, Mask, tuple[float, float, float]]) -> None:
    a, b, spacing = pair
    if not (a.any() and b.any()):
        return
    # No distance on these grids is just as long: MONAI's single precision decides a tie either way.
    tolerance = 2.0037
    theirs = compute_surface_dice(
        torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None], [tolerance],
        include_background=True, spacing=spacing, use_subvoxels=True,
    )  # fmt: skip
    assert case_metrics(a, b, spacing, tolerance).nsd == pytest.approx(float(theirs), abs=1e-4)


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


def test_masks_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        case_metrics(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), (1, 1, 1))
