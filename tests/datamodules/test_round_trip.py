"""From a file of any orientation into the store and back to its own grid an organ stays where it is."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from ct_files import affines, save
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy import ndimage

from datamodules.config import StructureConfig
from datamodules.layouts.manifest import ManifestSite
from datamodules.layouts.site import Case
from datamodules.native import native_label, to_native, write_native
from datamodules.prepare import prepare_cases
from datamodules.volume_files import Grid

SHAPE = (30, 28, 26)
SITE = ManifestSite(name="here", check_ct=False)


def _blob(centre: tuple[float, float, float]) -> np.ndarray:
    """An ellipsoid in a body that is not the same from any side."""
    apart = [(np.arange(size) - place) / half for size, place, half in zip(SHAPE, centre, (8, 6, 5), strict=True)]
    return sum(np.square(along)[tuple(np.s_[:] if k == j else None for k in range(3))] for j, along in enumerate(apart))


@given(affines(), st.tuples(*[st.floats(0.5, 1.4)] * 3), st.tuples(*[st.floats(11, 15)] * 3))
@settings(max_examples=15, deadline=None)
def test_an_organ_comes_back_within_half_a_voxel(
    tmp_path_factory: pytest.TempPathFactory,
    matrix: np.ndarray,
    factors: tuple[float, float, float],
    centre: tuple[float, float, float],
) -> None:
    """Oblique, left-handed and anisotropic, onto a finer or a coarser grid, through every file on the way."""
    home = tmp_path_factory.mktemp("trip")
    mask = (_blob(centre) < 1).astype(np.uint8)
    hu = np.where(_blob(centre) < 3, 40, -1000).astype(np.int16)
    case = Case("c", "c", save(home / "i.nii.gz", hu, matrix), save(home / "l.nii.gz", mask, matrix))
    edges = Grid(SHAPE, matrix).canonical_spacing()
    spacing = (edges[0] * factors[0], edges[1] * factors[1], edges[2] * factors[2])
    found = prepare_cases(SITE, [case], spacing, StructureConfig(), home / "store", progress=False)
    (stored,) = found.kept
    back = to_native(stored.label().astype(np.float32), stored.record) > 0.5
    write_native(home / "back.nii.gz", back.astype(np.uint8), stored.record)

    written = nib.load(home / "back.nii.gz")
    returned = np.asarray(written.dataobj)
    np.testing.assert_array_equal(native_label(stored.record), mask)
    assert returned.shape == SHAPE
    apart = np.array(ndimage.center_of_mass(returned)) - np.array(ndimage.center_of_mass(mask))
    assert np.abs(apart).max() < 0.5
    assert 2 * (returned & mask).sum() / (int(returned.sum()) + int(mask.sum())) > 0.85
    # And in the world, by the headers of both files.
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in SHAPE])).reshape(3, -1).T
    off = apply_affine(written.affine, corners) - apply_affine(matrix, corners)
    assert np.abs(off).max() < 0.5 * min(edges)
