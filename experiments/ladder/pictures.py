"""What a rung looks like: a slice of the ladder's first case with the outlines of label and prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.atomic import atomic_file
from datamodules.native import from_native
from datamodules.preprocessing import Canonical
from datamodules.store import CaseRecord
from datamodules.window import apply_window
from experiments.ladder.plan import Rung
from experiments.report.overlays import contours, png

FIELD = (200, 150)
"""Mm across and front to back that a picture shows, about the label's middle; a pixel a millimetre."""


@dataclass(frozen=True)
class Picture:
    """A slice as it is drawn, lengths in pixels.

    Attributes:
        image: PNG in base64.
        label: path data of the contours.
        prediction: path data of the contours.
    """

    image: str
    label: str
    prediction: str
    width: int = FIELD[0]
    height: int = FIELD[1]


def keep(
    path: Path, grid: Canonical, label: NDArray[np.uint8], probability: NDArray[np.float32], record: CaseRecord,
    window: tuple[float, float],
) -> None:  # fmt: skip
    """Write the axial slice with most of the label, on the training grid, seen from the feet.

    Args:
        path: where to, ``….npz``.
        grid: the scan on the training grid.
        label: on the native grid.
        probability: D×H×W on the training grid.
        record: where both grids lie.
        window: HU that are black and white: what the model sees.
    """
    import torch

    organ = from_native(label, record)
    place = int(organ.sum(axis=(0, 1)).argmax())
    grey = (apply_window(torch.from_numpy(grid.image[:, :, place]), window) * 255).numpy().astype(np.uint8)
    planes = [grey, *((plane > 0.5).astype(np.uint8) * 255 for plane in (organ[:, :, place], probability[:, :, place]))]
    inside = np.argwhere(organ[:, :, place] > 0.5)
    middle = inside.mean(axis=0) if len(inside) else np.array(grey.shape) / 2
    drawn = [_drawn(plane, middle, record.spacing[:2]) for plane in planes]
    with atomic_file(path, "wb") as file:
        np.savez_compressed(file, image=drawn[0], label=drawn[1] > 127, prediction=drawn[2] > 127)


def picture(path: Path) -> Picture | None:
    """What :func:`keep` has written; None where it has not."""
    if not path.is_file():
        return None
    with np.load(path) as kept:
        label, prediction = (contours(kept[name].astype(np.uint8), 1.0, 1.0) for name in ("label", "prediction"))
        return Picture(png(Image.fromarray(kept["image"])), label, prediction)


def place_of(folder: Path, rung: Rung) -> Path:
    """Where the picture of a rung goes."""
    return folder / "slices" / f"{rung.name}.npz"


def _drawn(plane: NDArray[np.uint8], middle: NDArray[np.float64], edges: tuple[float, ...]) -> NDArray[np.uint8]:
    """A plane, left to right and back to front, as it is seen: rows from the front, the patient's right first."""
    turned = Image.fromarray(np.ascontiguousarray(plane[::-1, ::-1].T))
    x, y = edges
    across, down = plane.shape[0] - 0.5 - middle[0], plane.shape[1] - 0.5 - middle[1]
    to_voxels = (1 / x, 0, across - FIELD[0] / 2 / x, 0, 1 / y, down - FIELD[1] / 2 / y)
    return np.asarray(turned.transform(FIELD, Image.Transform.AFFINE, to_voxels, Image.Resampling.BILINEAR))
