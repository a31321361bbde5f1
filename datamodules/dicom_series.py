"""One DICOM series in a folder: read by SimpleITK (GDCM) and TorchIO after its slices have been looked at.

ITK takes the spacing of slices from the first two and says nothing else; a missing slice or a tilted gantry would
give a volume whose anatomy is bent, so positions are checked here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import CaseError

MODALITY, DESCRIPTION, POSITION, ORIENTATION = "0008|0060", "0008|103e", "0020|0032", "0020|0037"
MAX_UNEVEN = 0.05
"""Greatest deviation of a step between slices, as a share of the common step."""
MAX_TILT = 0.02
"""Greatest shift of slices within their plane, as a share of the step between them."""


def read_series(folder: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Voxels in HU (rescaled) and their affine, 4×4 in RAS mm.

    Raises:
        CaseError: no series or several in the folder, not a CT, slices missing, doubled or shifted, damaged files.
    """
    import SimpleITK
    from torchio.data.io import sitk_to_nib

    files = _files(folder)
    _check_slices(folder, files)
    # TorchIO's own reader would look for the files once more, and take the first of several series.
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(files)
    try:
        voxels, affine = sitk_to_nib(reader.Execute())
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1][:150]
        raise CaseError(f"{folder}: a slice of its DICOM series is damaged or cut off ({said})") from error
    return voxels[0], np.asarray(affine, dtype=np.float64)


def read_series_grid(folder: Path) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine, 4×4 in RAS mm, from the headers.

    Raises:
        CaseError: as :func:`read_series`, save for damaged voxels.
    """
    files = _files(folder)
    step, first = _check_slices(folder, files)
    columns, rows, _ = first.GetSize()
    x, y, _ = first.GetSpacing()
    orientation = np.array(first.GetMetaData(ORIENTATION).split("\\"), dtype=np.float64)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = orientation[:3] * x, orientation[3:] * y, step
    lps[:3, 3] = np.array(first.GetMetaData(POSITION).split("\\"), dtype=np.float64)
    return (columns, rows, len(files)), np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def _files(folder: Path) -> list[str]:
    """The slices of the folder's only series, in the order of their positions."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    series = reader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise CaseError(f"{folder} holds no DICOM series")
    if len(series) > 1:
        described = "; ".join(_described(reader, folder, name) for name in series)
        raise CaseError(
            f"{folder} holds {len(series)} DICOM series, and one is wanted: {described}: give the folder of one of them"
        )
    return list(reader.GetGDCMSeriesFileNames(str(folder), series[0]))


def _described(reader: Any, folder: Path, series: str) -> str:
    files = reader.GetGDCMSeriesFileNames(str(folder), series)
    first = _header(files[0])
    text = first.GetMetaData(DESCRIPTION).strip() if first.HasMetaDataKey(DESCRIPTION) else "no description"
    return f"{text} ({len(files)} files from {Path(files[0]).name})"


def _header(path: str) -> Any:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(path)
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise CaseError(f"{path} is damaged or cut off, or no DICOM image") from error
    return reader


def _check_slices(folder: Path, files: list[str]) -> tuple[NDArray[np.float64], Any]:
    """The step from slice to slice in LPS mm, and the first slice's header."""
    headers = [_header(path) for path in files]
    first = headers[0]
    modality = first.GetMetaData(MODALITY).strip() if first.HasMetaDataKey(MODALITY) else "CT"
    if modality != "CT":
        raise CaseError(f"{folder} is not a CT: its DICOM headers say {modality!r}")
    if len(files) < 2:
        raise CaseError(f"{folder} holds a single slice, and a volume is wanted")
    if not all(header.HasMetaDataKey(key) for header in headers for key in (POSITION, ORIENTATION)):
        raise CaseError(f"{folder}: slices without a position or an orientation in their headers")
    positions = np.array([header.GetMetaData(POSITION).split("\\") for header in headers], dtype=np.float64)
    orientation = np.array(first.GetMetaData(ORIENTATION).split("\\"), dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    along = (positions - positions[0]) @ normal
    steps = np.diff(along)
    step = float(np.median(steps))
    if abs(step) < 1e-3 or np.abs(steps).min() < 1e-3:
        raise CaseError(f"{folder}: slices that lie on each other (a series stored twice, or several phases)")
    uneven = np.abs(steps - step) > MAX_UNEVEN * abs(step)
    if uneven.any():
        place = int(np.argmax(uneven))
        raise CaseError(
            f"{folder}: slices are missing or uneven: {abs(steps[place]):.2f} mm between "
            f"{Path(files[place]).name} and {Path(files[place + 1]).name}, where {abs(step):.2f} mm is the rule"
        )
    shift = positions - positions[0] - along[:, None] * normal
    if np.abs(shift).max() > MAX_TILT * abs(step) * len(files):
        raise CaseError(f"{folder}: its slices are shifted against each other (a tilted gantry): straighten it first")
    return normal * step, first
