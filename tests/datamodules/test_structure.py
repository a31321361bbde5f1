"""Distances are those to the surface, and the axis runs from the head on the patient's right to the tail."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_files import turned
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from datamodules.store import AXIS_OUTSIDE, AXIS_STEPS
from datamodules.structure import FOREGROUND, axis_coordinate, foreground, signed_distance, third

REAL = os.environ.get("PANSITE_TEST_DATA")


def _boxes_distance(label: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """By brute force: mm from each centre to the nearest point of any voxel of the other side."""
    edges = np.array(spacing)
    distance = np.empty(label.shape)
    for place in np.ndindex(label.shape):
        others = np.argwhere(label != label[place])
        gaps = (np.abs(others - place) - 0.5).clip(0) * edges
        distance[place] = np.linalg.norm(gaps, axis=1).min() * (-1 if label[place] else 1)
    return distance


@given(st.integers(0, 10_000), st.tuples(*[st.sampled_from([0.7, 1.0, 2.0, 3.0])] * 3))
@settings(max_examples=30, deadline=None)
def test_distances_are_those_to_the_voxels_of_the_other_side(seed: int, spacing: tuple[float, float, float]) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(9, 10, 8)), 1.5)
    label = (noise > np.quantile(noise, 0.8)).astype(np.uint8)
    found = signed_distance(label, spacing) / 100
    expected = _boxes_distance(label, spacing)
    assert np.array_equal(found < 0, label == 1)
    # The voxel with the nearest centre is mostly the nearest voxel; at worst, the other's corner is nearer.
    assert np.abs(found - expected).max() <= np.linalg.norm(spacing) / 2
    assert np.median(np.abs(found - expected)) <= 0.006
    assert np.all(found[label == 0] >= expected[label == 0] - 0.006)


@pytest.mark.parametrize("edge", [1.0, 2.0, 3.0, 4.0])
def test_voxels_beside_the_surface_are_half_a_voxel_from_it(edge: float) -> None:
    label = np.zeros((12, 12, 12), np.uint8)
    label[4:8, 4:8, 4:8] = 1
    distance = signed_distance(label, (edge, edge, edge)) / 100
    assert distance[3, 5, 5] == pytest.approx(edge / 2)
    assert distance[4, 5, 5] == pytest.approx(-edge / 2)
    assert distance[0, 5, 5] == pytest.approx(3.5 * edge)


def test_distances_are_clipped_at_100_mm_and_exact_up_to_there() -> None:
    label = np.zeros((260, 5, 5), np.uint8)
    label[3:6, 2, 2] = 1
    distance = signed_distance(label, (1.0, 1.0, 1.0)) / 100
    np.testing.assert_allclose(distance[6:260, 2, 2], np.minimum(np.arange(254) + 0.5, 100))


def test_a_mask_that_fills_the_volume_is_far_inside() -> None:
    assert (signed_distance(np.ones((4, 4, 4), np.uint8), (1.0, 1.0, 1.0)) == -10000).all()


def test_distance_to_a_ball_is_that_of_geometry() -> None:
    places = np.stack(np.indices((41, 41, 21)), -1) * np.array([1.0, 1.0, 2.0]) - 20
    radius = np.linalg.norm(places, axis=-1)
    distance = signed_distance((radius < 12).astype(np.uint8), (1.0, 1.0, 2.0)) / 100
    assert np.abs(distance - (radius - 12)).max() < 1.5
    assert np.abs(np.mean(distance - (radius - 12))) < 0.5


def _horseshoe(spacing: float, gap: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tube bent by 280°, the angle of each voxel (0 at its right end), and the affine."""
    matrix = np.diag([spacing] * 3 + [1.0])
    matrix[:3, 3] = -45
    size = round(90 / spacing)
    x, y, z = np.moveaxis(np.stack(np.indices((size, size, round(24 / spacing))), -1) * spacing - 45, -1, 0)
    angle = np.degrees(np.arctan2(y, x)) % 360
    tube = np.hypot(np.hypot(x, y) - 32, z + 33) < 7
    tube &= angle < 280
    arc = np.radians(np.abs(angle - 140)) * 32
    tube &= arc >= gap / 2
    return tube.astype(np.uint8), angle, matrix


@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.0])
def test_the_geodesic_axis_follows_a_bend_that_a_straight_axis_mixes_up(spacing: float) -> None:
    label, angle, matrix = _horseshoe(spacing)
    inside = label > 0
    axis = axis_coordinate(label, matrix)
    along = np.corrcoef(axis[inside], angle[inside])[0, 1]
    assert abs(along) > 0.995
    assert abs(np.corrcoef(axis_coordinate(label, matrix, "pca")[inside], angle[inside])[0, 1]) < 0.95
    assert (axis[~inside] == AXIS_OUTSIDE).all()


@pytest.mark.parametrize("kind", ["geodesic", "pca"])
def test_thirds_are_equal_and_the_head_is_on_the_patients_right(kind: str) -> None:
    label = np.zeros((60, 20, 20), np.uint8)
    label[5:55, 8:13, 8:13] = 1
    for matrix in (np.diag([1.0, 1, 1, 1]), np.diag([1.0, 1, 3, 1])):
        axis = axis_coordinate(label, matrix, kind)  # type: ignore[arg-type]  # both are axis kinds
        places = [np.argwhere((label > 0) & (third(axis) == part))[:, 0].mean() for part in range(3)]
        assert places[0] > places[1] > places[2]  # RAS: a larger x lies more to the right
        counts = np.bincount(third(axis[label > 0]), minlength=3) / label.sum()
        np.testing.assert_allclose(counts, 1 / 3, atol=0.01)


def test_a_small_gap_is_bridged_and_a_crumb_apart_does_not_matter() -> None:
    label, angle, matrix = _horseshoe(1.0, gap=2.0)
    assert ndimage.label(label, np.ones((3, 3, 3)))[1] == 2
    label[2:4, 2:4, 2:4] = 1
    tube = label.copy()
    tube[2:4, 2:4, 2:4] = 0
    axis = axis_coordinate(label, matrix)
    assert abs(np.corrcoef(axis[tube > 0], angle[tube > 0])[0, 1]) > 0.99


def test_a_mask_in_pieces_falls_back_to_a_straight_axis() -> None:
    label, _, matrix = _horseshoe(1.0, gap=12.0)
    np.testing.assert_array_equal(axis_coordinate(label, matrix), axis_coordinate(label, matrix, "pca"))


def test_no_axis_is_the_middle_everywhere() -> None:
    label, _, matrix = _horseshoe(3.0)
    axis = axis_coordinate(label, matrix, "none")
    assert set(np.unique(axis)) == {AXIS_STEPS // 2, AXIS_OUTSIDE}
    assert (third(axis[label > 0]) == 1).all()


@pytest.mark.parametrize("kind", ["geodesic", "pca", "none"])
def test_the_tiniest_mask_has_a_structure(kind: str) -> None:
    label = np.zeros((5, 5, 5), np.uint8)
    label[2, 2, 2] = 1
    assert axis_coordinate(label, np.eye(4), kind)[2, 2, 2] == AXIS_STEPS // 2  # type: ignore[arg-type]  # a kind
    assert signed_distance(label, (1.0, 1.0, 1.0))[2, 2, 2] == -50


def test_foreground_is_a_fixed_sample_of_the_organ() -> None:
    label, _, matrix = _horseshoe(1.0)
    axis = axis_coordinate(label, matrix)
    places = foreground(label, axis)
    np.testing.assert_array_equal(places, foreground(label, axis))
    assert len(places) == min(FOREGROUND, label.sum())
    assert len(np.unique(places[:, :3], axis=0)) == len(places)
    assert label[tuple(places[:, :3].T)].all()
    np.testing.assert_array_equal(places[:, 3], third(axis[tuple(places[:, :3].T)]))
    np.testing.assert_allclose(np.bincount(places[:, 3]) / len(places), 1 / 3, atol=0.02)


@pytest.mark.skipif(REAL is None, reason="PANSITE_TEST_DATA is not set: no real label maps here")
@pytest.mark.parametrize("name", ["s0327", "s0328"])
def test_real_organs_run_from_the_duodenum_to_the_spleen(name: str) -> None:
    folder = Path(REAL or ".") / "label_maps"
    ids = {organ: int(number) for number, organ in json.loads((folder / "class_map_total_v2.json").read_text()).items()}
    volume = nib.load(folder / f"{name}_multilabel_v2ids.nii.gz")
    organs = np.asarray(volume.dataobj)
    box = ndimage.find_objects((organs == ids["pancreas"]).astype(np.uint8))[0]
    window = tuple(slice(max(0, side.start - 60), side.stop + 60) for side in box)
    organs, matrix = organs[window], volume.affine
    label = (organs == ids["pancreas"]).astype(np.uint8)
    axis = axis_coordinate(label, matrix)
    part = np.where(label > 0, third(axis), -1)
    for organ, order in {"duodenum": (0, 1, 2), "spleen": (2, 1, 0)}.items():
        away = ndimage.distance_transform_edt(organs != ids[organ], sampling=np.linalg.norm(matrix[:3, :3], axis=0))
        near, middle, far = (away[part == k].mean() for k in order)
        assert near + 5 < middle
        assert middle + 5 < far
    straight = axis_coordinate(label, matrix, "pca")
    assert (third(straight[label > 0]) == part[label > 0]).mean() > 0.8
    # The axis is the patient's, not the file's: it goes along when the array is stored the other way round.
    other, other_matrix = turned(label, matrix, "LPI")
    same = turned(axis_coordinate(np.ascontiguousarray(other), other_matrix), other_matrix, "RAS")[0]
    assert np.abs(same[label > 0].astype(int) - axis[label > 0]).mean() < 8
