"""The way back: from the stored grid to a case's own voxels."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.atomic import atomic_file
from datamodules.errors import CaseError
from datamodules.grids import resampled
from datamodules.reading import read_label
from datamodules.store import CaseRecord
from datamodules.volume_files import Grid


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
    if probability.shape != record.shape:
        raise ValueError(f"a map of shape {probability.shape} is not on the stored grid {record.shape}")
    return resampled(probability, np.array(record.affine), np.array(record.native_affine), record.native_shape)


def from_native(mask: NDArray[Any], record: CaseRecord) -> NDArray[np.float32]:
    """The other way: a mask on the original image's own grid as a map on the stored grid.

    Args:
        mask: of ``record.native_shape``, 0 or 1.
        record: the case's record.

    Returns:
        float32 D×H×W in [0, 1].

    Raises:
        ValueError: the mask is not of the native grid's shape.
    """
    if mask.shape != record.native_shape:
        raise ValueError(f"a mask of shape {mask.shape} is not on the native grid {record.native_shape}")
    return resampled(mask, np.array(record.native_affine), np.array(record.affine), record.shape)


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
    more = [Path(path) for path in record.more_label_paths]
    return read_label(Path(record.label_path), record.labels, native_grid(record), record.label_flip, more)


def write_native(path: Path, array: NDArray[Any], record: CaseRecord, note: str = "") -> None:
    """Write an array on the original image's own grid as NIfTI, whole or not at all; ``.gz`` compresses it.

    Args:
        path: ``….nii`` or ``….nii.gz``.
        array: of ``record.native_shape``.
        record: the case's record.
        note: what the file says of itself, at most 79 letters of ASCII; see :func:`read_note`.

    Raises:
        ValueError: the array is not of the native grid's shape.
    """
    import nibabel as nib

    if array.shape != record.native_shape:
        raise ValueError(f"an array of shape {array.shape} is not on the native grid {record.native_shape}")
    image = nib.Nifti1Image(array, np.array(record.native_affine))
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner", strip_shears=True)
    image.header["descrip"] = note.encode("ascii")
    with atomic_file(path, "wb") as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=4, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def read_note(path: Path) -> str:
    """The note of a file that :func:`write_native` wrote; an empty string where there is none, or no such file."""
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    try:
        return bytes(nib.Nifti1Image.from_filename(path).header["descrip"].item()).decode("ascii", "replace")
    except (OSError, EOFError, zlib.error, ImageFileError):
        return ""
