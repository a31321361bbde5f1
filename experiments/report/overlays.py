"""Slices of a case: a picture in grey, and upon it the contours of label and prediction as vectors."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import contourpy
import numpy as np
import numpy.typing as npt
from PIL import Image

from datamodules.errors import NPZ_ERRORS, UsageError
from experiments.report.model import CaseResult, SiteResult

PLANES = ("axial", "coronal", "sagittal")
_HALF_SIDE = 0.75  # of the window, in lengths of the larger side of what is outlined
BUDGET = 2_600_000
"""Bytes of all pictures of a page, before base64."""
Bytes2D = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Slices:
    """One plane of a case, rows from top to bottom as seen, all arrays of one shape (H, W).

    Attributes:
        plane: ``axial``, ``coronal`` or ``sagittal``.
        image: grey, 0 to 255.
        label: 0 or 1.
        prediction: 0 or 1.
        uncertainty: 0 to 255.
        aspect: height of a pixel over its width.
    """

    plane: str
    image: Bytes2D
    label: Bytes2D
    prediction: Bytes2D
    uncertainty: Bytes2D
    aspect: float


@dataclass(frozen=True)
class Panel:
    """A plane as it is drawn: lengths in pixels of the picture.

    Attributes:
        plane: which.
        width: of the picture.
        height: of the picture, its pixels made square.
        image: PNG in base64.
        uncertainty: PNG in base64, see-through where the model is certain.
        label: path data of the contours.
        prediction: path data of the contours.
    """

    plane: str
    width: float
    height: float
    image: str
    uncertainty: str
    label: str
    prediction: str


@dataclass(frozen=True)
class Shown:
    """A case that is shown, and why.

    Attributes:
        case: the case.
        rank: ``worst``, ``median`` or ``only``.
        panels: empty where no slices were kept.
    """

    case: CaseResult
    rank: str
    panels: tuple[Panel, ...]


def overlays(sites: Sequence[SiteResult], budget: int = BUDGET) -> dict[str, tuple[Shown, ...]]:
    """The worst and the median case of each site, by the site's name.

    However many sites there are, the pictures stay within ``budget`` bytes, at most :data:`BUDGET`: they shrink where
    there are many.

    Raises:
        UsageError: a file of slices can't be read.
    """
    chosen = {site.name: choice(site.cases) for site in sites if site.cases}
    panels = sum(len(PLANES) for cases in chosen.values() for _, case in cases if case.slices)
    side = int(min(320.0, (min(budget, BUDGET) / max(1, panels) / 1.5) ** 0.5))
    return {
        name: tuple(Shown(case, rank, _panels(case.slices, side)) for rank, case in cases)
        for name, cases in chosen.items()
    }


def read_slices(path: Path) -> list[Slices]:
    """The three planes of a case as the evaluation kept them.

    Raises:
        UsageError: the file is not what the evaluation writes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return [
                Slices(
                    plane=plane,
                    image=file[f"{plane}_image"],
                    label=file[f"{plane}_label"],
                    prediction=file[f"{plane}_prediction"],
                    uncertainty=file[f"{plane}_uncertainty"],
                    aspect=float(file[f"{plane}_aspect"]),
                )
                for plane in PLANES
            ]
    except NPZ_ERRORS as error:
        raise UsageError(f"{path}: not the slices of a case ({error}); evaluate the run again.") from error


def choice(cases: Sequence[CaseResult]) -> list[tuple[str, CaseResult]]:
    """The worst and the lower median of cases in rising order of Dice."""
    median = (len(cases) - 1) // 2
    if len(cases) == 1:
        return [("only", cases[0])]
    return [("worst", cases[0]), ("median", cases[max(1, median)])]


def _panels(path: Path | None, side: int) -> tuple[Panel, ...]:
    return tuple(_panel(slices, side) for slices in read_slices(path)) if path else ()


def _panel(slices: Slices, side: int) -> Panel:
    rows, columns = window(slices)
    image, label, prediction, uncertainty = (
        array[rows, columns] for array in (slices.image, slices.label, slices.prediction, slices.uncertainty)
    )
    height, width = image.shape[0] * slices.aspect, float(image.shape[1])
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    x, y = size[0] / width, size[1] / image.shape[0]
    return Panel(
        plane=slices.plane,
        width=size[0],
        height=size[1],
        image=png(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)),
        uncertainty=png(_veil(uncertainty, (max(1, size[0] // 2), max(1, size[1] // 2)))),
        label=contours(label, x, y),
        prediction=contours(prediction, x, y),
    )


def window(slices: Slices) -> tuple[slice, slice]:
    """A square round both outlines, cut at the picture's border; the whole picture where both are empty."""
    outlined = (slices.label > 0) | (slices.prediction > 0)
    if not outlined.any():
        return slice(None), slice(None)
    rows, columns = (np.flatnonzero(outlined.any(axis=axis)) for axis in (1, 0))
    half = max((rows[-1] - rows[0] + 1) * slices.aspect, columns[-1] - columns[0] + 1) * _HALF_SIDE
    return (
        _around((rows[0] + rows[-1] + 1) / 2, half / slices.aspect),
        _around((columns[0] + columns[-1] + 1) / 2, half),
    )


def _around(centre: float, half: float) -> slice:
    return slice(max(0, int(centre - half)), int(centre + half) + 1)


def contours(mask: Bytes2D, x: float, y: float) -> str:
    """SVG path data round the pixels of ``mask``; a pixel is ``x`` wide and ``y`` high."""
    padded = np.pad((mask > 0).astype(float), 1)
    lines = contourpy.contour_generator(z=padded).lines(0.5)
    paths = []
    for line in lines:
        points = (np.asarray(line) - 0.5) * (x, y)  # a pixel's centre lies half a pixel in, the padding one out
        paths.append("M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points[:-1]) + "Z")
    return "".join(paths)


def _veil(uncertainty: Bytes2D, size: tuple[int, int]) -> Image.Image:
    """A violet veil, the denser the less certain."""
    small = Image.fromarray(uncertainty).resize(size, Image.Resampling.BILINEAR)
    veil = Image.new("RGBA", size, (204, 121, 167, 0))
    veil.putalpha(small.point(lambda value: int(value * 0.8)))
    return veil


def png(image: Image.Image) -> str:
    """A picture as PNG in base64."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")  # optimising takes ten times as long, for a twentieth of the bytes
    return base64.b64encode(buffer.getvalue()).decode("ascii")
