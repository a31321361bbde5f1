"""A native voxel belongs to the third of the organ that it lies in, on grids of any tilt and spacing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.native_thirds import native_thirds
from datamodules.store import CaseRecord, StoredCase, write_case
from datamodules.structure import axis_coordinate

LENGTH, RADIUS = 90.0, 11.0  # mm


def organ(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A rod from the patient's right to the left, and x in mm of every voxel."""
    world = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    inside = (np.abs(world[..., 0]) <= LENGTH / 2) & (np.linalg.norm(world[..., 1:], axis=-1) <= RADIUS)
    return inside.astype(np.uint8), world[..., 0]


def centred(directions: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = directions
    affine[:3, 3] = -directions @ ((np.array(shape) - 1) / 2)
    return affine


def tilted(spacing: tuple[float, float, float], flips: tuple[int, int, int]) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(12)), np.sin(np.radians(12))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return np.asarray(turn @ np.diag(np.array(spacing) * flips))


@pytest.mark.parametrize(
    ("stored_edge", "native"),
    [(3.0, (0.8, 0.8, 2.5)), (1.5, (3.0, 2.0, 5.0)), (2.0, (2.0, 2.0, 2.0))],
    ids=["finer", "coarser", "alike"],
)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, 1)], ids=["RAS", "LPS", "left-handed"])
def test_every_native_voxel_has_its_third(
    tmp_path: Path, stored_edge: float, native: tuple[float, float, float], flips: tuple[int, int, int]
) -> None:
    shape = (int(110 / stored_edge), int(40 / stored_edge), int(40 / stored_edge))
    affine = centred(np.eye(3) * stored_edge, shape)
    label, _ = organ(affine, shape)
    native_shape = (int(130 / native[0]), int(80 / native[1]), int(40 / native[2]))
    native_affine = centred(tilted(native, flips), native_shape)
    reference, x = organ(native_affine, native_shape)
    record = CaseRecord(
        site="s", case="c", patient="c", shape=shape, spacing=(stored_edge,) * 3, affine=affine.tolist(),
        native_shape=native_shape, native_affine=native_affine.tolist(), image_path="", label_path=None, labels=[1],
        digest="", fingerprint="", pancreas_volume_ml=0.0, warnings=[],
    )  # fmt: skip
    axis = axis_coordinate(label, affine, "pca")
    write_case(tmp_path, record, np.zeros(shape, np.int16), label, label.astype(np.int16), axis)
    found = native_thirds(StoredCase(tmp_path), reference)
    assert len(found) == reference.sum()
    # The head is to the patient's right, where x is largest.
    along = x[reference > 0]
    expected = np.digitize(-along, [-LENGTH / 6, LENGTH / 6])
    sure = np.abs(np.abs(along) - LENGTH / 6) > stored_edge
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(found[sure], expected[sure])
    assert np.bincount(found).min() > 0.28 * len(found)
