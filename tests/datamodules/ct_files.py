"""Small CT-like volumes on disk, in any orientation, for tests of reading and of geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray

from datamodules.layouts.manifest import ManifestSite

SHAPE = (40, 36, 24)
SPACING = (5.0, 5.0, 5.0)


def affine(spacing: tuple[float, float, float] = SPACING) -> NDArray[np.float64]:
    """RAS, with an origin that is not the world's."""
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = (-97.0, -60.0, 412.0)
    return matrix


def abdomen(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """HU of a body with fat, soft tissue and a spine in air, and a label: pancreas 7, liver 5.

    The pancreas is a bar along the left-right axis; its place depends on ``seed``.
    """
    generator = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    radius = np.hypot(x / 0.85, y / 0.75)
    hu = np.where(radius < 1, -100.0, -1000.0)
    hu[radius < 0.75] = 45
    hu[np.hypot(x, y + 0.4) < 0.12] = 400
    label = np.zeros(shape, dtype=np.uint8)
    label[(x > 0.25) & (radius < 0.7) & (abs(z) < 0.5)] = 5
    shift = generator.uniform(-0.1, 0.1, 3)
    label[(abs(x - shift[0]) < 0.45) & (abs(y - shift[1]) < 0.2) & (abs(z - shift[2]) < 0.2)] = 7
    hu[label == 7] = 110
    hu += generator.normal(0, 8, shape)
    return hu.round().astype(np.int16), label


def turned(array: NDArray[Any], matrix: NDArray[np.float64], codes: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The same voxels at the same places, stored in another orientation such as ``"LPS"``."""
    change = ornt_transform(nib.io_orientation(matrix), axcodes2ornt(tuple(codes)))
    return apply_orientation(array, change), matrix @ inv_ornt_aff(change, array.shape)


def save(path: Path, array: NDArray[Any], matrix: NDArray[np.float64] | None = None) -> Path:
    """Write NIfTI with both transforms of the header set."""
    image = nib.Nifti1Image(array, affine() if matrix is None else matrix)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def write_site(folder: Path, number: int, name: str = "here", **options: Any) -> ManifestSite:
    """A manifest site of ``number`` abdomens called c0, c1, … with patients of two cases each."""
    rows = ["case,image,label,patient"]
    for seed in range(number):
        hu, label = abdomen(seed)
        save(folder / f"c{seed}.nii.gz", hu)
        save(folder / f"c{seed}_label.nii.gz", label)
        rows.append(f"c{seed},c{seed}.nii.gz,c{seed}_label.nii.gz,p{seed // 2}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return ManifestSite(name=name, root=str(folder / "cases.csv"), labels=[7], **options)


@st.composite
def affines(draw: st.DrawFn, oblique: float = 35.0) -> NDArray[np.float64]:
    """Axes in any order and direction (left-handed too), turned by up to so many degrees, anywhere."""
    angles = [np.radians(draw(st.floats(-oblique, oblique))) for _ in range(3)]
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = [k for k in range(3) if k != axis]
        turn[[first, first, second, second], [first, second, first, second]] = (
            np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        )  # fmt: skip
        rotation = rotation @ turn
    order = draw(st.permutations(range(3)))
    flips = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    spacing = [draw(st.floats(0.6, 5.0)) for _ in range(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = rotation[:, order] * np.array(flips) * np.array(spacing)
    matrix[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return matrix
