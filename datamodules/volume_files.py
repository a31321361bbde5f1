"""Volumes from files: NIfTI by nibabel, a folder with one DICOM series by TorchIO and SimpleITK.

Every way in which a file can be damaged ends in a :class:`CaseError` of one sentence, and what the libraries
print on that way does not reach the user.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import CaseError

SPACING_RANGE = (0.02, 50.0)
"""Voxel edges in mm outside of which a header is not believed."""
MAX_VOXELS = 2**31
MAX_SHEAR = 0.02
"""Greatest cosine between two axes of a grid, about one degree."""
GZIP_RATIO = 1032
"""More than this deflate can't expand."""


class UnreadableError(CaseError):
    """The system did not give the file: no permission, a broken disk or network. Another time it may."""


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
    with _quiet():
        if _exists(path).is_dir():
            from datamodules.dicom_series import read_series_grid

            return _checked_grid(path, *read_series_grid(path))
        header = _nifti(path)
        return _nifti_grid(path, header)


def read_volume(path: Path) -> tuple[NDArray[Any], Grid]:
    """Voxels in the file's order and type (scaled by its slope), and their grid.

    Raises:
        CaseError: the file is missing or damaged, not a single 3-D volume, or its grid is none of a CT.
    """
    with _quiet():
        if _exists(path).is_dir():
            from datamodules.dicom_series import read_series

            voxels, affine = read_series(path)
            return voxels, _checked_grid(path, voxels.shape, affine)
        header = _nifti(path)
        grid = _nifti_grid(path, header)
        return _nifti_voxels(path, header).reshape(grid.shape), grid


def without_dust(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine whose entries under 1e-12 mm are 0: of denormal numbers ITK makes an empty volume."""
    return np.where(np.abs(affine) < 1e-12, 0.0, affine)


@contextmanager
def _quiet() -> Iterator[None]:
    """What ITK and nibabel print about odd headers is said by our own sentences or not at all."""
    import SimpleITK
    from nibabel import imageglobals

    level, shown = imageglobals.logger.level, SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    imageglobals.logger.setLevel(logging.CRITICAL + 1)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        imageglobals.logger.setLevel(level)
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)


def _exists(path: Path) -> Path:
    if not path.exists():
        dangling = " (a link to nowhere)" if path.is_symlink() else ""
        raise CaseError(f"{path} does not exist{dangling}")
    return path


def _nifti(path: Path) -> Any:
    """Nibabel's image, of which only the header has been read."""
    import nibabel as nib

    try:
        image = nib.load(path)
    except Exception as error:  # nibabel raises whatever the bytes provoke
        _refuse_unreadable(path, error)
        raise CaseError(f"{path} is not a NIfTI file or its header is damaged ({_short(error)})") from error
    if not isinstance(image, nib.Nifti1Pair):
        raise CaseError(f"{path} is {type(image).__name__}, and a NIfTI file or a DICOM folder is wanted")
    if image.get_data_dtype().kind not in "iuf":
        raise CaseError(f"{path} has voxels of type {image.get_data_dtype()}, and single numbers are wanted")
    return image


def _nifti_grid(path: Path, image: Any) -> Grid:
    try:
        affine = np.asarray(image.affine, dtype=np.float64)
        coded = int(image.header["sform_code"]) > 0
    except Exception as error:
        raise CaseError(f"{path}: its header tells no orientation ({_short(error)})") from error
    if not coded:
        _check_pixdim(path, image)
    return _checked_grid(path, image.shape, affine)


def _check_pixdim(path: Path, image: Any) -> None:
    """Without an sform the spacing is ``pixdim``, in which nibabel silently turns a zero into one."""
    from nibabel.openers import ImageOpener

    with ImageOpener(image.file_map.get("header", image.file_map["image"]).filename) as file:
        raw = type(image.header).from_fileobj(file, check=False)
    pixdim = np.asarray(raw["pixdim"][1:4], dtype=np.float64)
    if not np.all(np.isfinite(pixdim) & (pixdim > 0)):
        raise CaseError(f"{path}: its header gives a spacing of {_numbers(pixdim)} mm")


def _checked_grid(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> Grid:
    """The grid, trailing axes of one voxel left off."""
    full, shape = shape, tuple(int(size) for size in shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise CaseError(f"{path} is {len(shape)}-D with shape {tuple(full)}, and one 3-D volume is wanted")
    if min(shape) < 1 or int(np.prod([int(s) for s in shape], dtype=object)) > MAX_VOXELS:
        raise CaseError(f"{path}: its header gives an absurd shape {shape}")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_RANGE
    if not np.all(np.isfinite(affine)) or spacing.min() < low or spacing.max() > high:
        raise CaseError(
            f"{path}: its header gives a spacing of {_numbers(spacing)} mm, and {low} to {high} is believed"
        )
    cosines = (affine[:3, :3] / spacing).T @ (affine[:3, :3] / spacing) - np.eye(3)
    if np.abs(cosines).max() > MAX_SHEAR:
        degrees = np.degrees(np.arccos(np.clip(np.abs(cosines).max(), 0, 1)))
        raise CaseError(
            f"{path}: its axes meet at {degrees:.1f}° and not at a right angle (a tilted gantry?): "
            f"resample it onto a rectangular grid first"
        )
    return Grid((shape[0], shape[1], shape[2]), without_dust(affine))


def _nifti_voxels(path: Path, image: Any) -> NDArray[Any]:
    try:
        if path.name.endswith(".gz"):
            image = type(image).from_bytes(_unpacked(path, image))
        voxels = np.asanyarray(image.dataobj)
        return np.array(voxels) if isinstance(voxels, np.memmap) else voxels
    except CaseError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, OverflowError) as error:
        _refuse_unreadable(path, error)
        raise CaseError(f"{path} is damaged or cut off ({_short(error)})") from error


def _unpacked(path: Path, image: Any) -> bytes:
    """The bytes of a .nii.gz, read to their end: only there gzip's checksum tells a damaged file."""
    expected = int(image.dataobj.offset) + int(np.prod(image.shape, dtype=object)) * image.get_data_dtype().itemsize
    if expected > GZIP_RATIO * path.stat().st_size:
        raise CaseError(f"{path} is cut off: its header promises {expected:,} bytes, which it can't hold")
    with gzip.open(path) as file:
        content = file.read(expected)
        rest = 0
        while more := len(file.read(2**20)):
            rest += more
            if rest > expected + 2**20:
                raise CaseError(f"{path} unpacks to far more than the {expected:,} bytes its header promises")
    return content


def _refuse_unreadable(path: Path, error: BaseException) -> None:
    """Tell what the system refused, which carries its number, from what the bytes are to blame for."""
    if isinstance(error, OSError) and error.errno:
        raise UnreadableError(f"{path} can't be read ({error.strerror})") from error


def _numbers(values: NDArray[np.float64]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)


def _short(error: BaseException) -> str:
    """The first line of what a library said."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:150]
