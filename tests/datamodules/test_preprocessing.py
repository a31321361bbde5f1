"""The stored grid lies where the tissue lies, covers the body, and never cuts the label."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchio as tio
from ct_files import SHAPE, abdomen, affine, affines, turned
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.orientations import aff2axcodes, io_orientation
from scipy import ndimage

from datamodules.errors import CaseError
from datamodules.grids import antialias, body_box, larger_pieces, target_grid, training_grid
from datamodules.preprocessing import preprocess
from datamodules.store import HU_RANGE

spacings = st.tuples(*[st.floats(0.8, 6.0)] * 3)


def _image(array: np.ndarray, matrix: np.ndarray) -> tio.ScalarImage:
    return tio.ScalarImage(tensor=torch.from_numpy(array.astype(np.float32))[None], affine=matrix)


def _label(array: np.ndarray, matrix: np.ndarray) -> tio.LabelMap:
    return tio.LabelMap(tensor=torch.from_numpy(np.ascontiguousarray(array, np.uint8))[None], affine=matrix)


def _world(shape: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    return np.asarray(apply_affine(matrix, np.stack(np.indices(shape), -1)))


@given(affines(), spacings, st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_a_stored_voxel_shows_what_is_at_its_world_coordinates(
    matrix: np.ndarray, spacing: tuple[float, float, float], axis: int
) -> None:
    """HU are made a linear function of one world coordinate: any shift, flip or swap of the grid is seen."""
    shape = (34, 30, 32)
    x = _world(shape, matrix)[..., axis]
    hu = -400 + 1400 * (x - x.min()) / np.ptp(x)
    grid = preprocess(_image(hu, matrix), None, spacing)
    assert "".join(aff2axcodes(grid.affine)) == "RAS"
    np.testing.assert_allclose(np.linalg.norm(grid.affine[:3, :3], axis=0), spacing, rtol=1e-6)
    places = _world(grid.image.shape, grid.affine)
    expected = -400 + 1400 * (places[..., axis] - x.min()) / np.ptp(x)
    # At the rim, half a voxel beyond the outermost centres, HU are held and smoothing lacks its other side.
    voxel = apply_affine(np.linalg.inv(matrix), places)
    coarser = np.array(spacing)[io_orientation(matrix)[:, 0].astype(int)] / np.linalg.norm(matrix[:3, :3], axis=0)
    rim = 1 + 1.5 * coarser
    inside = np.all((voxel >= rim) & (voxel <= np.array(shape) - 1 - rim), axis=-1)
    assume(inside.any())
    np.testing.assert_allclose(grid.image[inside], expected[inside], atol=0.6)
    assert np.all((voxel >= -0.51) & (voxel <= np.array(shape) - 0.49))


@given(affines(), spacings)
@settings(max_examples=40, deadline=None)
def test_a_label_stays_where_it_was_and_as_large_as_it_was(
    matrix: np.ndarray, spacing: tuple[float, float, float]
) -> None:
    shape = (26, 24, 22)
    edges = np.linalg.norm(matrix[:3, :3], axis=0)
    label = np.zeros(shape, dtype=np.uint8)
    label[4:20, 6:19, 5:17] = 1
    grid = preprocess(_image(np.full(shape, 40.0), matrix), _label(label, matrix), spacing)
    assert grid.label is not None
    before = apply_affine(matrix, np.argwhere(label)).mean(0)
    after = apply_affine(grid.affine, np.argwhere(grid.label)).mean(0)
    assert np.linalg.norm(after - before) <= np.linalg.norm(spacing) / 2
    sides = np.array([16, 13, 12]) * edges
    ratio = grid.label.sum() * np.prod(spacing) / (label.sum() * np.prod(edges))
    low, high = np.prod(1 - np.array(max(spacing)) / sides), np.prod(1 + np.array(max(spacing)) / sides)
    assert low <= ratio <= high


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAI", "SAR", "PIL"])
def test_the_way_a_file_stores_its_axes_changes_nothing(codes: str) -> None:
    hu, label = abdomen()
    mask = (label == 7).astype(np.uint8)
    expected = preprocess(_image(hu, affine()), _label(mask, affine()), (4.0, 5.0, 6.0))
    other, matrix = turned(hu, affine(), codes)
    same = preprocess(_image(other, matrix), _label(turned(mask, affine(), codes)[0], matrix), (4.0, 5.0, 6.0))
    np.testing.assert_array_equal(same.image, expected.image)
    np.testing.assert_array_equal(same.label, expected.label)
    np.testing.assert_allclose(same.affine, expected.affine, atol=1e-9)


def test_at_its_own_spacing_a_volume_is_only_cropped() -> None:
    hu, label = abdomen()
    grid = preprocess(_image(hu, affine()), _label(label == 7, affine()), (5.0, 5.0, 5.0))
    first = np.round(apply_affine(np.linalg.inv(affine()), grid.affine[:3, 3])).astype(int)
    window = tuple(slice(start, start + size) for start, size in zip(first, grid.image.shape, strict=True))
    np.testing.assert_array_equal(grid.image, hu[window].clip(-1024, 3071))
    np.testing.assert_array_equal(grid.label, label[window] == 7)
    assert grid.image.size < hu.size


def test_padding_and_metal_are_clipped_before_they_are_mixed_with_tissue() -> None:
    hu = abdomen()[0].astype(np.float32)
    hu[hu < -900] = -3024
    grid = preprocess(_image(hu, affine()), None, (7.0, 7.0, 7.0))
    clipped = preprocess(_image(hu.clip(-1024, None), affine()), None, (7.0, 7.0, 7.0))
    np.testing.assert_array_equal(grid.image, clipped.image)
    assert grid.image.min() >= -1024


def test_the_box_holds_the_body_and_not_the_air_nor_the_table() -> None:
    hu = np.full((80, 80, 30), -1000.0, dtype=np.float32)
    hu[20:60, 25:60] = 40
    hu[10:70, 8:10] = 200  # a table, apart
    box = body_box(hu, None, np.diag([5.0, 5.0, 5.0, 1.0]))
    assert [(side.start, side.stop) for side in box] == [(18, 62), (23, 62), (0, 30)]


def test_a_label_outside_of_the_body_is_in_the_box_all_the_same() -> None:
    hu = np.full((60, 60, 30), -1000.0, dtype=np.float32)
    hu[30:50, 30:50] = 40
    label = np.zeros(hu.shape, dtype=np.uint8)
    label[2:4, 3:5, 10] = 1
    grid = preprocess(_image(hu, affine()), _label(label, affine()), (5.0, 5.0, 5.0))
    assert grid.label is not None
    assert grid.label.sum() == label.sum()


def test_a_volume_without_air_or_without_tissue_is_kept_whole() -> None:
    for value in (40.0, -1000.0):
        hu = np.full(SHAPE, value, dtype=np.float32)
        assert [side.stop - side.start for side in body_box(hu, None, affine())] == list(SHAPE)


@given(affines(oblique=5), spacings, st.tuples(*[st.integers(1, 9)] * 3))
def test_a_grid_covers_its_box_and_is_centred_on_it(
    matrix: np.ndarray, spacing: tuple[float, float, float], size: tuple[int, int, int]
) -> None:
    box = (slice(2, 2 + size[0]), slice(5, 5 + size[1]), slice(0, size[2]))
    shape, grid = target_grid(box, matrix, spacing)
    edges = np.linalg.norm(matrix[:3, :3], axis=0)
    extent, covered = np.array(size) * edges, np.array(shape) * np.array(spacing)
    assert np.all(covered >= extent - 0.01 * np.array(spacing))
    assert np.all(covered < extent + np.array(spacing))
    centres = [apply_affine(grid, (np.array(shape) - 1) / 2), apply_affine(matrix, [
        (side.start + side.stop - 1) / 2 for side in box])]  # fmt: skip
    np.testing.assert_allclose(centres[0], centres[1], atol=1e-6)


def test_noise_does_not_alias_into_a_coarser_grid() -> None:
    noise = np.random.default_rng(0).normal(0, 50, (60, 60, 60)).astype(np.float32)
    whole = (slice(0, 60),) * 3
    smooth = noise.copy()
    antialias(smooth, np.eye(4), (4.0, 4.0, 1.0), whole)
    # Smoothed in the plane that gets coarser, untouched along the axis that does not.
    sigma = np.sqrt(15 / (8 * np.log(2)))
    expected = ndimage.gaussian_filter(noise, (sigma, sigma, 0), mode="nearest", truncate=3.0)
    np.testing.assert_allclose(smooth, expected, atol=1e-3)
    same = noise.copy()
    antialias(same, np.eye(4), (1.0, 0.5, 1.0), whole)
    np.testing.assert_array_equal(same, noise)


@given(st.tuples(*[st.integers(0, 40)] * 3), st.sampled_from([(4.0, 1.0, 2.5), (1.5, 1.5, 1.5), (6.0, 6.0, 6.0)]))
@settings(max_examples=20)
def test_a_box_is_smoothed_as_if_all_had_been(first: tuple[int, ...], spacing: tuple[float, float, float]) -> None:
    noise = np.random.default_rng(0).normal(0, 50, (50, 48, 46)).astype(np.float32)
    box = tuple(slice(start, min(start + 9, size)) for start, size in zip(first, noise.shape, strict=True))
    whole, part = noise.copy(), noise.copy()
    antialias(whole, np.eye(4), spacing, tuple(slice(0, size) for size in noise.shape))  # type: ignore[arg-type]
    antialias(part, np.eye(4), spacing, box)  # type: ignore[arg-type]
    near = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
    np.testing.assert_array_equal(part[near], whole[near])


@given(affines(), spacings, st.integers(0, 3))
@settings(max_examples=25)
def test_a_bundle_comes_to_the_same_voxels_without_torchio(
    matrix: np.ndarray, spacing: tuple[float, float, float], seed: int
) -> None:
    """To the last bit, whatever the orientation: halves of HU are rounded alike."""
    hu, _ = abdomen(seed, (24, 22, 26))
    expected = preprocess(_image(hu, matrix), None, spacing)
    stored, grid = training_grid(hu.astype(np.float32), matrix, spacing, HU_RANGE)
    np.testing.assert_array_equal(stored, expected.image)
    np.testing.assert_array_equal(grid, expected.affine)


def test_pieces_hold_together_at_corners_and_are_left_out_by_their_share_of_the_largest() -> None:
    mask = np.zeros((8, 9, 10), dtype=bool)
    assert not larger_pieces(mask, 1).any()
    mask[1:3, 1:3, 1:3] = mask[3, 3, 3] = True  # they meet at a corner: 9 voxels
    mask[6:8, 6:8, 6:8] = True  # 8
    mask[0, 8, 8:10] = True  # 2
    for smallest, left in ((0, 19), (2 / 9, 19), (0.25, 17), (8 / 9, 17), (0.9, 9), (1, 9)):
        kept = larger_pieces(mask, smallest)
        assert kept.sum() == left
        assert kept[3, 3, 3]
        assert not (kept & ~mask).any()


def test_a_label_that_vanishes_at_the_spacing_is_said() -> None:
    hu, label = abdomen()
    tiny = np.zeros_like(label)
    tiny[20, 18, 12] = 1
    with pytest.raises(CaseError, match="nothing of it is left at 40 × 40 × 40 mm"):
        preprocess(_image(hu, affine()), _label(tiny, affine()), (40.0, 40.0, 40.0))


def test_the_same_case_is_stored_alike_every_time() -> None:
    hu, label = abdomen()
    first, second = (preprocess(_image(hu, affine()), _label(label == 7, affine()), (7.0, 6.0, 4.0)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.label, second.label)


def test_denormal_numbers_in_a_header_do_not_empty_the_volume() -> None:
    hu, label = abdomen()
    dusty = affine()
    dusty[0, 1], dusty[1, 0] = 4e-310, -4e-310
    grid = preprocess(_image(hu, dusty), _label(label == 7, dusty), (5.0, 5.0, 5.0))
    clean = preprocess(_image(hu, affine()), _label(label == 7, affine()), (5.0, 5.0, 5.0))
    np.testing.assert_array_equal(grid.image, clean.image)
    np.testing.assert_array_equal(grid.label, clean.label)
