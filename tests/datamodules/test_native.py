"""The way to the stored grid and back lands on the original voxels."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torchio as tio
from ct_files import abdomen, affine, affines, save, turned
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy import ndimage

from datamodules import grids
from datamodules.errors import CaseError
from datamodules.layouts.site import Case, SiteConfig
from datamodules.native import native_label, to_native, write_native
from datamodules.preprocessing import Canonical, preprocess
from datamodules.reading import read_case
from datamodules.store import CaseRecord
from datamodules.volume_files import Grid

REAL = os.environ.get("PANSITE_TEST_DATA")
spacings = st.tuples(*[st.floats(0.8, 6.0)] * 3)


def _record(grid: Canonical, shape: tuple[int, int, int], matrix: np.ndarray) -> CaseRecord:
    shape_stored = (grid.image.shape[0], grid.image.shape[1], grid.image.shape[2])
    return CaseRecord(
        "s", "c", "c", shape_stored, (1.0, 1.0, 1.0), grid.affine.tolist(), shape, matrix.tolist(),
        "i.nii.gz", None, [7], "", "", 0.0, [],
    )  # fmt: skip


def _preprocess(
    hu: np.ndarray, label: np.ndarray, matrix: np.ndarray, spacing: tuple[float, float, float]
) -> Canonical:
    image = tio.ScalarImage(tensor=torch.from_numpy(hu.astype(np.float32))[None], affine=matrix)
    mask = tio.LabelMap(tensor=torch.from_numpy(label.astype(np.uint8))[None], affine=matrix)
    return preprocess(image, mask, spacing)


@given(affines(), st.tuples(*[st.floats(0.5, 2.0)] * 3))
@settings(max_examples=40, deadline=None)
def test_a_blob_comes_back_to_its_place_within_a_tenth_of_a_voxel(
    matrix: np.ndarray, factors: tuple[float, float, float]
) -> None:
    """On oblique, left-handed and anisotropic grids, finer or coarser than the stored one."""
    shape = (30, 28, 26)
    blob = np.ones(shape)
    for axis, centre in enumerate((15.3, 12.2, 13.6)):
        along = np.exp(-((np.arange(shape[axis]) - centre) ** 2) / 18)
        blob *= along.reshape([-1 if k == axis else 1 for k in range(3)])
    edges = Grid(shape, matrix).canonical_spacing()
    spacing = (edges[0] * factors[0], edges[1] * factors[1], edges[2] * factors[2])
    grid = _preprocess(1000 * blob, blob > 0.5, matrix, spacing)
    back = to_native(grid.image.astype(np.float32), _record(grid, shape, matrix))
    assert back.shape == shape
    assert back.dtype == np.float32
    apart = np.array(ndimage.center_of_mass(back)) - np.array(ndimage.center_of_mass(blob))
    assert np.abs(apart).max() < 0.1
    assert np.corrcoef(back.ravel(), blob.ravel())[0, 1] > 0.98


@given(affines(), spacings, st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_a_map_is_interpolated_linearly_at_each_native_voxels_world_coordinates(
    matrix: np.ndarray, spacing: tuple[float, float, float], axis: int
) -> None:
    shape = (18, 16, 14)
    grid = _preprocess(np.full(shape, 40.0), np.ones(shape), matrix, spacing)
    record = _record(grid, shape, matrix)
    stored = apply_affine(grid.affine, np.stack(np.indices(record.shape), -1))[..., axis].astype(np.float32)
    places = apply_affine(matrix, np.stack(np.indices(shape), -1))
    voxel = apply_affine(np.linalg.inv(grid.affine), places)
    inside = np.all((voxel >= 0) & (voxel <= np.array(record.shape) - 1), axis=-1)
    assume(inside.any())
    np.testing.assert_allclose(to_native(stored, record)[inside], places[inside][:, axis], atol=2e-2)


def test_beyond_the_stored_grid_there_is_nothing_and_up_to_its_border_there_is_all() -> None:
    hu, label = abdomen()
    grid = _preprocess(hu, label == 7, affine(), (7.0, 7.0, 7.0))
    record = _record(grid, hu.shape, affine())
    back = to_native(np.ones(record.shape, np.float32), record)
    voxel = apply_affine(np.linalg.inv(grid.affine) @ affine(), np.stack(np.indices(hu.shape), -1))
    covered = np.all((voxel > -0.5) & (voxel < np.array(record.shape) - 0.5), axis=-1)
    assert set(np.unique(back)) == {0.0, 1.0}
    np.testing.assert_array_equal(back == 1, covered)


def test_slabs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hu, label = abdomen()
    other, matrix = turned(hu, affine(), "PSL")
    grid = _preprocess(other, turned(label == 7, affine(), "PSL")[0], matrix, (6.0, 7.0, 4.0))
    record = _record(grid, other.shape, matrix)
    noise = np.random.default_rng(0).random(record.shape, dtype=np.float32)
    whole = to_native(noise, record)
    monkeypatch.setattr(grids, "SLAB_VOXELS", 5000)
    np.testing.assert_allclose(to_native(noise, record), whole, atol=1e-5)


def test_what_is_on_another_grid_is_refused(tmp_path: Path) -> None:
    hu, label = abdomen()
    record = _record(_preprocess(hu, label == 7, affine(), (7.0, 7.0, 7.0)), hu.shape, affine())
    with pytest.raises(ValueError, match="not on the stored grid"):
        to_native(np.zeros((3, 3, 3), np.float32), record)
    with pytest.raises(ValueError, match="not on the native grid"):
        write_native(tmp_path / "a.nii.gz", np.zeros((3, 3, 3), np.uint8), record)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii"])
@given(matrix=affines())
@settings(max_examples=10, deadline=None)
def test_a_written_file_lies_on_the_inputs_grid_for_every_reader(
    tmp_path_factory: pytest.TempPathFactory, name: str, matrix: np.ndarray
) -> None:
    shape = (6, 5, 4)
    mask = (np.arange(120).reshape(shape) % 7 == 0).astype(np.uint8)
    grid = Canonical(np.zeros(shape, np.int16), None, np.eye(4))
    path = tmp_path_factory.mktemp("native") / name
    write_native(path, mask, _record(grid, shape, matrix))
    written = nib.load(path)
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    assert written.get_data_dtype() == np.uint8
    for read in (written.get_sform(), written.get_qform(), tio.LabelMap(path).affine):
        # The qform keeps its rotation as a quaternion of 32 bits.
        np.testing.assert_allclose(read, matrix, atol=5e-3)
    assert [other.name for other in path.parent.iterdir()] == [name]


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    shape = (6, 5, 4)
    record = _record(Canonical(np.zeros(shape, np.int16), None, np.eye(4)), shape, affine())
    for name in ("a.nii.gz", "b.nii.gz"):
        write_native(tmp_path / name, np.ones(shape, np.uint8), record)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_the_reference_is_read_on_the_images_own_grid(tmp_path: Path) -> None:
    hu, label = abdomen()
    record = _record(_preprocess(hu, label == 7, affine(), (7.0, 7.0, 7.0)), hu.shape, affine())
    with pytest.raises(CaseError, match="site 's', case 'c': it has no label"):
        native_label(record)
    path = save(tmp_path / "label.nii.gz", *turned(label, affine(), "LPS"))
    np.testing.assert_array_equal(native_label(replace(record, label_path=str(path))), label == 7)


@pytest.mark.skipif(REAL is None, reason="PANSITE_TEST_DATA is not set: no real CTs here")
@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz"),
        ("example_ct_dicom", "example_seg_dicom.nii.gz"),
    ],
)
def test_real_labels_survive_the_way_to_2_mm_and_back(image: str, label: str) -> None:
    folder = Path(REAL or ".") / "totalsegmentator"
    raw = read_case(Case("a", "a", folder / image, folder / label), SiteConfig(layout="any", labels=[7]))
    assert raw.label is not None
    grid = preprocess(raw.image, raw.label, (2.0, 2.0, 2.0))
    assert grid.label is not None
    record = _record(grid, raw.image.spatial_shape, np.asarray(raw.image.affine))
    back = to_native(grid.label.astype(np.float32), record) > 0.5
    mask = raw.label.data[0].numpy() == 1
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.9
