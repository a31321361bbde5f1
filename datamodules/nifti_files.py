"""A NIfTI file, its header by nibabel, of which nothing is believed: what it promises is checked before more is read.

Voxels take the memory of those that the file really holds, once, and never more than its header says. Nibabel would
read a header's extensions too, of up to 2 GiB each. A ``.nii.gz`` is unpacked to its end: only there gzip's checksum
tells a damaged file.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import CaseError, UnreadableError
from datamodules.memory import check_memory

MAX_OFFSET = 2**24
"""Bytes of a header with its extensions."""
MAX_VOXELS = 2**30
"""1024×1024 pixels in 1024 slices."""
MAX_EDGE = 2**13
GZIP_RATIO = 1032
"""More than this deflate can't expand."""
DAMAGE = (OSError, EOFError, ValueError, zlib.error, OverflowError)
MAX_APART = 0.1
"""Greatest difference between the two orientations of a header, as cosines, and between its spacings, as a share."""
CHUNK = 2**24


@dataclass(frozen=True)
class Nifti:
    """A file of which the header has been read.

    Attributes:
        raw: nibabel's header with what is in the file.
        header: the same, with what nibabel mends.
        shape: of the voxels.
        dtype: of the voxels in the file, of its byte order.
        offset: bytes before the voxels.
        slope: what stored values are multiplied by; 1 where the file gives none.
        inter: what is added then.
    """

    raw: Any
    header: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float


def read_header(path: Path) -> Nifti:
    """The header of a NIfTI file, of which no more is read than it is long.

    Raises:
        CaseError: it is none, is damaged or promises what can't be.
    """
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise CaseError(f"{path} is {_kind(path)}, and a NIfTI file (.nii, .nii.gz) or a DICOM folder is wanted")
    try:
        with _opened(path) as file:
            raw = _raw_header(file.read(540))
        checked = raw.copy()
        checked.check_fix()
        shape, dtype, offset = checked.get_data_shape(), checked.get_data_dtype(), checked.get_data_offset()
        slope, inter = checked.get_slope_inter()
    except Exception as error:  # nibabel raises whatever the bytes provoke
        refuse_unreadable(path, error)
        raise CaseError(f"{path} is not a NIfTI file or its header is damaged ({short(error)})") from error
    if dtype.kind not in "iuf":
        raise CaseError(f"{path} has voxels of type {dtype}, and single numbers are wanted")
    check_shape(path, shape)
    if not checked.single_vox_offset <= offset <= MAX_OFFSET:
        raise CaseError(f"{path}: its header says that the voxels begin at byte {offset:.6g}, which is absurd")
    expected = offset + math.prod(shape) * dtype.itemsize
    if expected > path.stat().st_size * (GZIP_RATIO if name.endswith(".gz") else 1):
        raise CaseError(f"{path} is cut off: its header promises {expected:,} bytes, which it can't hold")
    return Nifti(raw, checked, shape, dtype, offset, 1.0 if slope is None else slope, 0.0 if inter is None else inter)


def nifti_affine(path: Path, nifti: Nifti, believed: bool = True) -> NDArray[np.float64]:
    """The file's affine, 4×4 voxel to world in RAS mm: its sform, else its qform, as the standard has it.

    Args:
        path: the file.
        nifti: of :func:`read_header`.
        believed: whether the orientation is of use, so that a header that tells two of them is refused.

    Raises:
        CaseError: the header tells none, or two that contradict one another.
    """
    sform, qform = (int(nifti.header[f"{name}_code"]) > 0 for name in ("sform", "qform"))
    try:
        affine = np.asarray(nifti.header.get_best_affine(), dtype=np.float64)
    except Exception as error:  # as above
        raise CaseError(f"{path}: its header tells no orientation ({short(error)})") from error
    if not sform:
        # The spacing is pixdim, in which nibabel silently turns a zero into one.
        pixdim = np.asarray(nifti.raw["pixdim"][1:4], dtype=np.float64)
        if not np.all(np.isfinite(pixdim) & (pixdim > 0)):
            raise CaseError(f"{path}: its header gives a spacing of {_times(pixdim)} mm")
    elif believed and qform and (told := _contradiction(nifti.header, affine)):
        raise CaseError(
            f"{path}: the two orientations in its header, sform and qform, contradict one another ({told}): find out "
            f"which is right, and write it as both"
        )
    return affine


def nifti_voxels(path: Path, nifti: Nifti) -> NDArray[Any]:
    """The voxels in the file's order, scaled by its slope.

    Raises:
        CaseError: the file is damaged or cut off, or unpacks to more than it promises.
    """
    from nibabel.volumeutils import apply_read_scaling

    try:
        with _opened(path) as file:
            stored = _stored(path, file, nifti)
        return np.asarray(apply_read_scaling(stored, nifti.slope, nifti.inter))
    except CaseError:
        raise
    except DAMAGE as error:
        refuse_unreadable(path, error)
        raise CaseError(f"{path} is damaged or cut off ({short(error)}): get it anew") from error


def refuse_unreadable(path: Path, error: BaseException) -> None:
    """Tell what the system refused, which carries its number, from what the bytes are to blame for.

    Raises:
        UnreadableError: it was the system.
    """
    if isinstance(error, OSError) and error.errno:
        raise UnreadableError(f"{path} can't be read ({error.strerror})") from error


def check_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of a volume, trailing axes of one voxel left off.

    Raises:
        CaseError: it is none of a 3-D volume, or absurd.
    """
    full = tuple(int(size) for size in shape)
    kept = full
    while len(kept) > 3 and kept[-1] == 1:
        kept = kept[:-1]
    if not kept or min(kept) < 1 or max(kept) > MAX_EDGE or math.prod(kept) > MAX_VOXELS:
        raise CaseError(f"{path}: its header gives an absurd shape {full}")
    if len(kept) != 3:
        raise CaseError(f"{path} is {len(kept)}-D with shape {full}, and one 3-D volume is wanted")
    return kept[0], kept[1], kept[2]


def short(error: BaseException) -> str:
    """The first line of what a library said."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:150]


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return "a single DICOM file"
    return f"a {path.suffix} file" if path.suffix else "a file without an ending"


def _opened(path: Path) -> Any:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _raw_header(start: bytes) -> Any:
    """The header as it is in the file, NIfTI-1 or -2 of either byte order.

    Raises:
        ValueError: it is neither.
    """
    import nibabel as nib

    for kind, size in ((nib.Nifti1Header, 348), (nib.Nifti2Header, 540)):
        for order in ("<", ">"):
            if len(start) >= size and int(np.frombuffer(start[:4], f"{order}i4")[0]) == size:
                return kind(start[:size], endianness=order, check=False)
    raise ValueError("it does not begin as one")


def _contradiction(header: Any, sform: NDArray[np.float64]) -> str | None:
    """How the qform differs so much that the anatomy would: mirrored, turned or stretched."""
    try:
        qform = np.asarray(header.get_qform(), dtype=np.float64)
    except Exception:  # a qform that is none is not used, and there is an sform
        return None
    spacings = [np.linalg.norm(affine[:3, :3], axis=0) for affine in (sform, qform)]
    if not all(np.isfinite(edges).all() and edges.min() > 0 for edges in spacings):
        return None  # refused for what it is if it is the sform, not used if it is the qform
    if np.abs(spacings[0] / spacings[1] - 1).max() > MAX_APART:
        return f"{_times(spacings[0])} mm and {_times(spacings[1])} mm"
    cosines = np.sum(sform[:3, :3] * qform[:3, :3], axis=0) / spacings[0] / spacings[1]
    if cosines.min() < 1 - MAX_APART:
        return f"axes up to {np.degrees(np.arccos(np.clip(cosines.min(), -1, 1))):.0f}° apart"
    return None


def _times(values: NDArray[np.float64]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)


def _stored(path: Path, file: Any, nifti: Nifti) -> NDArray[Any]:
    """The voxels as they are in the file, which is read to its end."""
    voxels = math.prod(nifti.shape)
    check_memory(path, voxels, nifti.dtype.itemsize)
    size = voxels * nifti.dtype.itemsize
    if len(file.read(nifti.offset)) < nifti.offset:
        raise EOFError("it ends before the voxels begin")
    # Memory is taken as it is filled: of a promise alone there is none.
    content = np.empty(size, dtype=np.uint8)
    view, filled = content.data, 0
    while filled < size and (count := file.readinto(view[filled : filled + CHUNK])):
        filled += count
    if filled < size:
        raise EOFError(f"{filled:,} bytes of voxels, where its header promises {size:,}")
    rest = 0
    while more := len(file.read(2**20)):
        rest += more
        if rest > 2**20:
            raise CaseError(f"{path} unpacks to far more than the {nifti.offset + size:,} bytes its header promises")
    return content.view(nifti.dtype).reshape(nifti.shape, order="F")
