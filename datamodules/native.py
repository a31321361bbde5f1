"""The way back: from the stored grid to a case's own voxels."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.atomic import atomic_file
from datamodules.errors import CaseError
from datamodules.reading import read_label
from datamodules.store import CaseRecord
from datamodules.volume_files import Grid, without_dust

SLAB_VOXELS = 2**24
"""Native voxels that are resampled at once."""


def to_native(probability: NDArray[np.float32], record: CaseRecord) -> NDArray[np.float32]:
    """Resample a map from the stored grid to the original image's own grid; linear, 0 outside of the stored grid.

    Oblique and left-handed grids are resampled as they are. SimpleITK does it, slab by slab along the last axis.

    Args:
        probability: float32 D×H×W on the stored grid.
        record: the case's record.

    Returns:
        float32 of ``record.native_shape``, in the file's own order of voxels.

    Raises:
        ValueError: the map is not of the stored grid's shape.
    """
    import SimpleITK

    if probability.shape != record.shape:
        raise ValueError(f"a map of shape {probability.shape} is not on the stored grid {record.shape}")
    # In stored voxels, so that ITK needs no orthonormal directions: identity here, an affine transform there.
    moving = SimpleITK.GetImageFromArray(np.ascontiguousarray(probability.T, dtype=np.float32))
    to_stored = without_dust(np.linalg.inv(np.array(record.affine)) @ np.array(record.native_affine))
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(to_stored[:3, :3].ravel().tolist())
    width, height, depth = record.native_shape
    native = np.empty(record.native_shape, dtype=np.float32)
    slab = max(1, SLAB_VOXELS // (width * height))
    for start in range(0, depth, slab):
        count = min(slab, depth - start)
        transform.SetTranslation((to_stored[:3, 2] * start + to_stored[:3, 3]).tolist())
        resampler = SimpleITK.ResampleImageFilter()
        resampler.SetSize((width, height, count))
        resampler.SetTransform(transform)
        resampler.SetInterpolator(SimpleITK.sitkLinear)
        resampler.SetDefaultPixelValue(0.0)
        resampled = resampler.Execute(moving)  # named, for the view does not keep it alive
        native[..., start : start + count] = SimpleITK.GetArrayViewFromImage(resampled).T
    return native


def native_grid(record: CaseRecord) -> Grid:
    """The original image's own grid."""
    return Grid(record.native_shape, np.array(record.native_affine, dtype=np.float64))


def native_label(record: CaseRecord) -> NDArray[np.uint8]:
    """The reference on the original image's own grid, read from its file; uint8 0 or 1.

    Raises:
        CaseError: the case has no label, or its file is not what it was when the case was prepared.
    """
    if record.label_path is None:
        raise CaseError(f"site {record.site!r}, case {record.case!r}: it has no label")
    return read_label(Path(record.label_path), record.labels, native_grid(record))


def write_native(path: Path, array: NDArray[Any], record: CaseRecord) -> None:
    """Write an array on the original image's own grid as NIfTI, whole or not at all; ``.gz`` compresses it.

    Args:
        path: ``….nii`` or ``….nii.gz``.
        array: of ``record.native_shape``.
        record: the case's record.

    Raises:
        ValueError: the array is not of the native grid's shape.
    """
    import nibabel as nib

    if array.shape != record.native_shape:
        raise ValueError(f"an array of shape {array.shape} is not on the native grid {record.native_shape}")
    image = nib.Nifti1Image(array, np.array(record.native_affine))
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner", strip_shears=True)
    with atomic_file(path, "wb") as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=4, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)
