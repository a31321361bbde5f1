"""Volumes from files: NIfTI, or a folder with a DICOM series.

Every way in which a file can be damaged ends in a :class:`CaseError` of one sentence, and what the libraries
print on that way does not reach the user.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.dicom_series import find_series, read_voxels
from datamodules.errors import CaseError
from datamodules.grids import without_dust
from datamodules.memory import check_memory
from datamodules.nifti_files import check_shape, nifti_affine, nifti_voxels, read_header, refuse_unreadable

SPACING_RANGE = (0.02, 50.0)
"""Voxel edges in mm outside of which a header is not believed."""
MAX_EXTENT = 4000.0
"""Mm: no scanner sees farther."""
MAX_SHEAR = 0.02
"""Greatest cosine between two axes of a grid, about one degree."""


@dataclass(frozen=True)
class Grid:
    """Where a volume's voxels lie.

    Attributes:
        shape: number of voxels along the file's three axes.
        affine: 4×4, voxel to world in RAS mm.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Mm along the file's three axes."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def canonical_spacing(self) -> tuple[float, float, float]:
        """Mm along left-right, posterior-anterior, inferior-superior, by the nearest axis of the file."""
        from nibabel.orientations import io_orientation

        spacing = [0.0, 0.0, 0.0]
        for axis, (target, _) in enumerate(io_orientation(self.affine)):
            spacing[int(target)] = float(self.spacing[axis])
        return spacing[0], spacing[1], spacing[2]

    def __str__(self) -> str:
        edges = " × ".join(f"{edge:.4g}" for edge in self.spacing)
        return f"{' × '.join(map(str, self.shape))} voxels of {edges} mm"


def read_grid(path: Path) -> Grid:
    """The grid of a NIfTI file or a DICOM series, from headers alone.

    Raises:
        CaseError: the file is missing or damaged, or the grid is none of a CT.
    """
    with _reading(path):
        if _is_folder(path):
            series = find_series(path)
            return _checked_grid(path, series.shape, series.affine)
        nifti = read_header(path)
        return _checked_grid(path, nifti.shape, nifti_affine(path, nifti))


def read_volume(path: Path, believed: bool = True) -> tuple[NDArray[Any], Grid]:
    """Voxels in the file's order and type (scaled by its slope), and their grid.

    Args:
        path: a NIfTI file or a folder with a DICOM series.
        believed: whether its orientation is of use; where it is not, a header may tell two that contradict.

    Raises:
        CaseError: the file is missing or damaged, not a single 3-D volume, or its grid is none of a CT.
    """
    with _reading(path):
        if _is_folder(path):
            series = find_series(path)
            grid = _checked_grid(path, series.shape, series.affine)
            check_memory(path, int(np.prod(grid.shape)), 4)
            return read_voxels(path, series), grid
        nifti = read_header(path)
        grid = _checked_grid(path, nifti.shape, nifti_affine(path, nifti, believed))
        return nifti_voxels(path, nifti).reshape(grid.shape), grid


def remarks_on(path: Path) -> list[str]:
    """What is to be said of a file that can be read: which series was taken of a DICOM folder, if there was a choice.

    Raises:
        CaseError: it can't be read.
    """
    with _reading(path):
        return find_series(path).remarks if _is_folder(path) else []


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What ITK and nibabel print about odd headers is said by our own sentences or not at all.

    Raises:
        UnreadableError: the system did not give what is there.
    """
    import SimpleITK
    from nibabel import imageglobals

    level, shown = imageglobals.logger.level, SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    imageglobals.logger.setLevel(logging.CRITICAL + 1)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except OSError as error:
        refuse_unreadable(path, error)
        raise
    finally:
        imageglobals.logger.setLevel(level)
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, and not a file.

    Raises:
        CaseError: it is neither.
    """
    try:
        if path.is_dir():
            return True
        if path.is_file():
            return False
        there, dangling = path.exists(), path.is_symlink()
    except OSError as error:
        refuse_unreadable(path, error)
        raise CaseError(f"{path} can't be read") from error
    if there:
        raise CaseError(f"{path} is neither a file nor a folder")
    raise CaseError(f"{path} does not exist{' (a link to nowhere)' if dangling else ''}")


def _checked_grid(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> Grid:
    shape = check_shape(path, shape)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_RANGE
    if not np.all(np.isfinite(affine)) or spacing.min() < low or spacing.max() > high:
        raise CaseError(
            f"{path}: its header gives a spacing of {_numbers(spacing)} mm, and {low} to {high} is believed"
        )
    extent = spacing * shape
    if extent.max() > MAX_EXTENT:
        raise CaseError(
            f"{path}: by its header it is {_numbers(extent / 1000)} m large, and {MAX_EXTENT / 1000:g} is believed"
        )
    cosines = (affine[:3, :3] / spacing).T @ (affine[:3, :3] / spacing) - np.eye(3)
    if np.abs(cosines).max() > MAX_SHEAR:
        degrees = np.degrees(np.arccos(np.clip(np.abs(cosines).max(), 0, 1)))
        raise CaseError(
            f"{path}: its axes meet at {degrees:.1f}° and not at a right angle (a tilted gantry?): "
            f"resample it onto a rectangular grid first"
        )
    return Grid(shape, without_dust(affine))


def _numbers(values: NDArray[np.float64]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)
