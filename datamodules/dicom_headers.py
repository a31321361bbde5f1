"""What a DICOM file says of itself, as far as it decides whether it is a slice of a CT; read by SimpleITK (GDCM)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import CaseError

AXIAL = 0.7
"""Least cosine between an axial slice's normal and the body's axis."""
PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Header:
    """One file.

    Attributes:
        path: the file.
        description: of its series, as the scanner named it.
        modality: ``CT`` where none is given.
        localiser: whether it is a scout view.
        frames: 1, more in a multi-frame file.
        samples: numbers in a pixel: 3 in a colour picture.
        size: columns and rows.
        position: of its first pixel, LPS mm; None where there is none that makes sense.
        rows: 2×3, unit vectors in LPS along a row and along a column; None likewise.
        spacing: mm from column to column and from row to row; None likewise.
        rescale: slope and intercept of its HU, as written.
    """

    path: Path
    description: str
    modality: str
    localiser: bool
    frames: int
    samples: int
    size: tuple[int, int]
    position: NDArray[np.float64] | None
    rows: NDArray[np.float64] | None
    spacing: tuple[float, float] | None
    rescale: tuple[str, str]

    @property
    def normal(self) -> NDArray[np.float64] | None:
        """Unit vector across the slice, LPS."""
        return None if self.rows is None else np.cross(self.rows[0], self.rows[1])

    @property
    def plane(self) -> str:
        """Axial, coronal, sagittal, oblique, or unknown."""
        if self.normal is None:
            return "unknown"
        cosines = np.abs(self.normal)
        return PLANES[int(cosines.argmax())] if cosines.max() >= AXIAL else "oblique"

    @property
    def no_slice(self) -> str | None:
        """Why it is none of a CT volume; None where it is one."""
        if self.modality != "CT":
            return f"not a CT: its DICOM headers say {self.modality!r}"
        if self.frames > 1:
            return "multi-frame (enhanced) DICOM"
        if self.samples != 1:
            return "colour pictures"
        return "a localiser" if self.localiser else None


def read_header(path: str) -> Header:
    """Read a file's header.

    Raises:
        CaseError: it has none, or it is damaged.
    """
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(path)
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise CaseError(f"{path} is damaged or cut off, or no DICOM image") from error
    size, spacing = reader.GetSize(), _numbers(reader, "0028|0030", 2)
    orientation = _numbers(reader, "0020|0037", 6)
    return Header(
        path=Path(path),
        description=_text(reader, "0008|103e") or "no description",
        modality=_text(reader, "0008|0060") or "CT",
        localiser="LOCALIZER" in _text(reader, "0008|0008").upper().split("\\"),
        frames=size[2] if len(size) > 2 else 1,
        samples=reader.GetNumberOfComponents(),
        size=(size[0], size[1]),
        position=_numbers(reader, "0020|0032", 3),
        rows=None if orientation is None else _unit_vectors(orientation.reshape(2, 3)),
        # PixelSpacing is of the rows first. GDCM takes 1 mm, or the detector's, where there is none.
        spacing=None if spacing is None or spacing.min() <= 0 else (float(spacing[1]), float(spacing[0])),
        rescale=(_text(reader, "0028|1053"), _text(reader, "0028|1052")),
    )


def _text(reader: Any, tag: str) -> str:
    # Texts come as bytes of whatever character set the file has.
    text = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
    return text.encode("utf-8", "replace").decode("utf-8").strip(" \0")


def _numbers(reader: Any, tag: str, count: int) -> NDArray[np.float64] | None:
    try:
        values = np.array(_text(reader, tag).split("\\"), dtype=np.float64)
    except ValueError:
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def _unit_vectors(rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
    lengths = np.linalg.norm(rows, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(rows[0] @ rows[1]) > 0.01:
        return None
    return rows
