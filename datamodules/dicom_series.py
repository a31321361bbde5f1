"""The CT in a DICOM folder: the one series that is a volume, read by SimpleITK (GDCM) after its slices were looked at.

ITK takes the spacing of slices from the first two and says nothing else; a missing slice or a tilted gantry would
give a volume whose anatomy is bent, so positions are checked here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.dicom_headers import Header, read_header
from datamodules.errors import CaseError

MAX_UNEVEN = 0.05
"""Greatest deviation of a step between slices, as a share of the common step."""
MAX_TILT = 0.02
"""Greatest shift of slices within their plane, as a share of the step between them."""
SUFFIXES = (".dcm", ".ima", ".dicom")
HEAD = 1024
"""Bytes of a file in which it says what it is."""
CT_STORAGE = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.2(\.[12])?(?![0-9.])")
"""The DICOM standard's name for CT images."""


@dataclass(frozen=True)
class Series:
    """A straight volume.

    Attributes:
        slices: in the order of their positions.
        affine: 4×4, voxel to world in RAS mm.
        remarks: what else is in the folder and was not taken, one sentence each.
    """

    slices: list[Header]
    affine: NDArray[np.float64]
    remarks: list[str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        return *self.slices[0].size, len(self.slices)


def find_series(folder: Path) -> Series:
    """The CT volume of a folder, from headers alone.

    Raises:
        CaseError: there is none or there are several, or slices are missing, doubled, shifted or damaged.
    """
    groups = _groups(folder)
    slices, remarks = _chosen(folder, groups)
    _check_damaged(folder, groups, slices)
    return Series(*_in_order(folder, slices), remarks)


def read_voxels(folder: Path, series: Series) -> NDArray[Any]:
    """Voxels of a series of :func:`find_series` in HU (rescaled), columns × rows × slices.

    Raises:
        CaseError: a file is damaged, or of a compression that GDCM does not know.
    """
    import SimpleITK

    # TorchIO's own reader would look for the files once more, and take the first of several series.
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(header.path) for header in series.slices])
    if len({header.rescale for header in series.slices}) > 1:
        # ITK takes the first slice's type for all, and would cut what another slice's slope gives.
        reader.SetOutputPixelType(SimpleITK.sitkFloat32)
    try:
        return np.asarray(SimpleITK.GetArrayFromImage(reader.Execute())).T
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1][:150]
        raise CaseError(
            f"{folder}: a slice of its DICOM series is damaged, cut off, or compressed in a way that GDCM does not "
            f"read ({said})"
        ) from error


def _groups(folder: Path) -> list[list[Header]]:
    """The folder's images by series, and within a series by what can't be of one volume."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    groups: dict[tuple[Any, ...], list[Header]] = {}
    for uid in reader.GetGDCMSeriesIDs(str(folder)):
        for path in reader.GetGDCMSeriesFileNames(str(folder), uid):
            header = read_header(path)
            plane = None if header.rows is None else tuple(header.rows.ravel().round(2) + 0.0)
            groups.setdefault((uid, header.size, plane, header.no_slice), []).append(header)
    if not groups:
        raise CaseError(f"{folder} holds no DICOM series{_instead(folder)}")
    return list(groups.values())


def _instead(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not names:
        return ": it is empty"
    if nifti := [name for name in names if name.endswith((".nii", ".nii.gz"))]:
        return f" but NIfTI files: name one of them ({', '.join(nifti[:3])}{', …' if len(nifti) > 3 else ''})"
    if inner := [name for name in names if (folder / name).is_dir()]:
        return f" itself: is one of its folders meant ({', '.join(inner[:3])}{', …' if len(inner) > 3 else ''})?"
    return ""


def _chosen(folder: Path, groups: list[list[Header]]) -> tuple[list[Header], list[str]]:
    """The slices of the only volume, and what is said of the rest."""
    volumes = [group for group in groups if group[0].no_slice is None and len(group) > 1]
    axial = [group for group in volumes if group[0].plane == "axial"]
    if len(volumes) != 1 and len(axial) != 1:
        _refuse(folder, groups, volumes)
    (taken,) = axial if len(axial) == 1 else volumes
    remarks = [] if taken[0].plane == "axial" else [f"the slices of its DICOM series are {taken[0].plane}, not axial"]
    if rest := [group for group in groups if group is not taken]:
        remarks.append(f"taken of its DICOM folder: {_described(taken)}; left: {'; '.join(map(_described, rest))}")
    return taken, remarks


def _refuse(folder: Path, groups: list[list[Header]], volumes: list[list[Header]]) -> None:
    listed = "; ".join(map(_described, volumes or groups))
    if volumes:
        raise CaseError(
            f"{folder} holds {len(volumes)} DICOM series, and one is wanted: {listed}: give a folder with one of them"
        )
    if len(groups) > 1:
        raise CaseError(f"{folder} holds no CT volume, but {listed}")
    first = groups[0][0]
    if first.frames > 1 and first.modality == "CT":
        raise CaseError(
            f"{folder}: {first.path.name} is a multi-frame (enhanced) DICOM file, which is not read here: convert it "
            f"to NIfTI, for instance with dcm2niix"
        )
    if first.no_slice is None:
        raise CaseError(f"{folder} holds a single slice, and a volume is wanted")
    raise CaseError(f"{folder} is {first.no_slice}")


def _described(group: Sequence[Header]) -> str:
    first = group[0]
    files = f"{len(group)} file{'s' * (len(group) != 1)} from {first.path.name}"
    return f"{first.description} ({first.no_slice or first.plane}, {files})"


def _check_damaged(folder: Path, groups: Sequence[Sequence[Header]], slices: Sequence[Header]) -> None:
    """GDCM passes over what it can't read: at an end of the volume nothing would tell that a slice is missing."""
    read = {header.path.name for group in groups for header in group}
    alike = {header.path.suffix.lower() for header in slices}
    for path in sorted(folder.iterdir()):
        if path.name in read or path.name.startswith(".") or not path.is_file():
            continue
        with path.open("rb") as file:
            head = file.read(HEAD)
        suffix = path.suffix.lower()
        if CT_STORAGE.search(head) or (suffix in alike and (suffix in SUFFIXES or not head)):
            raise CaseError(f"{folder}: {path.name} is damaged or cut off, so that a slice may be missing: get it anew")


def _in_order(folder: Path, slices: Sequence[Header]) -> tuple[list[Header], NDArray[np.float64]]:
    """The slices along their normal, and their affine, if they are as far from one another and straight."""
    first = slices[0]
    if any(header.position is None or header.rows is None for header in slices) or first.rows is None:
        raise CaseError(f"{folder}: slices without a position or an orientation in their headers")
    if any(header.spacing is None for header in slices) or first.spacing is None:
        raise CaseError(f"{folder}: slices without PixelSpacing in their headers, so that nobody knows their size")
    if len({header.spacing for header in slices}) > 1:
        raise CaseError(f"{folder}: slices whose pixels are of different sizes in one series")
    normal = np.cross(first.rows[0], first.rows[1])
    positions = np.array([header.position for header in slices])
    order = np.argsort(positions @ normal, kind="stable")
    slices, positions = [slices[place] for place in order], positions[order]
    step = _step(folder, slices, positions, normal)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = first.rows[0] * first.spacing[0], first.rows[1] * first.spacing[1]
    lps[:3, 2], lps[:3, 3] = normal * step, positions[0]
    return slices, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def _step(folder: Path, slices: Sequence[Header], positions: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """Mm from slice to slice."""
    along = (positions - positions[0]) @ normal
    steps = np.diff(along)
    step = float(np.median(steps))
    names = [header.path.name for header in slices]
    if steps.min() < 1e-3:
        place = int(steps.argmin())
        raise CaseError(
            f"{folder}: slices that lie on each other, {names[place]} and {names[place + 1]} first (a series stored "
            f"twice, or several phases): keep one of them"
        )
    uneven = np.abs(steps - step) > MAX_UNEVEN * step
    if uneven.any():
        place = int(np.argmax(uneven))
        raise CaseError(
            f"{folder}: slices are missing or uneven: {steps[place]:.2f} mm between {names[place]} and "
            f"{names[place + 1]}, where {step:.2f} mm is the rule"
        )
    shift = positions - positions[0] - along[:, None] * normal
    if np.abs(shift).max() > MAX_TILT * step * len(slices):
        raise CaseError(
            f"{folder}: its slices are shifted against each other, {np.linalg.norm(shift[-1]):.1f} mm over all (a "
            f"tilted gantry): straighten it first"
        )
    return step
