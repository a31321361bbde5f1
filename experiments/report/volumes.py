"""Volumes for the slice viewer: each as two sheets of axial slices, from which a browser cuts all planes."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from datamodules.errors import NPZ_ERRORS, UsageError

Bytes3D = npt.NDArray[np.uint8]
Spacing = tuple[float, float, float]
FORMS = ((1, 55), (1, 30), (2, 55), (2, 30), (3, 40), (4, 40), (6, 30))
"""How small a volume is made: every how many voxels, and the quality of its grey; the first that fits is taken."""


@dataclass(frozen=True)
class Sheets:
    """A volume as the page holds it.

    Attributes:
        shape: voxels along Z (downwards), Y (backwards), X (to the patient's left).
        spacing: mm along them.
        columns: slices that stand side by side on a sheet.
        image: grey, a WebP in base64.
        masks: bit 0 the label, bit 1 the prediction, above them the uncertainty; a lossless WebP in base64.
    """

    shape: tuple[int, int, int]
    spacing: Spacing
    columns: int
    image: str
    masks: str


def sheets(path: Path, most: int) -> Sheets | None:
    """A case's volume in at most ``most`` bytes, before base64; None where it does not come down to that.

    Raises:
        UsageError: the file is not what the evaluation writes.
    """
    image, masks, spacing = _read(path)
    for step, quality in FORMS:
        columns = math.ceil(math.sqrt(image[::step].shape[0]))
        grey, marks = _sheet(_means(image, step), columns), _sheet(_thinned(masks, step), columns)
        encoded = _webp(grey, quality=quality, method=4), _webp(marks, lossless=True, quality=60, method=4)
        if sum(map(len, encoded)) <= most:
            depth, height, width = _thinned(masks, step).shape
            z, y, x = (edge * step for edge in spacing)
            in_text = [base64.b64encode(each).decode("ascii") for each in encoded]
            return Sheets((depth, height, width), (z, y, x), columns, in_text[0], in_text[1])
    return None


def _read(path: Path) -> tuple[Bytes3D, Bytes3D, Spacing]:
    try:
        with np.load(path, allow_pickle=False) as file:
            image, masks, spacing = file["image"], file["masks"], file["spacing"]
        z, y, x = spacing.tolist()
        if image.shape != masks.shape or image.ndim != 3 or image.dtype != np.uint8:
            raise ValueError("its arrays do not match")
    except NPZ_ERRORS as error:
        raise UsageError(f"{path}: not the volume of a case ({error}); evaluate the run again.") from error
    return image, masks, (z, y, x)


def _thinned(array: Bytes3D, step: int) -> Bytes3D:
    return array[::step, ::step, ::step]


def _means(array: Bytes3D, step: int) -> Bytes3D:
    """Means of blocks, in the shape of what is thinned alike; blocks at an end repeat their last voxels."""
    if step == 1:
        return array
    padded = np.pad(array, [(0, -length % step) for length in array.shape], mode="edge")
    depth, height, width = (length // step for length in padded.shape)
    blocks = padded.reshape(depth, step, height, step, width, step)
    means: Bytes3D = blocks.mean(axis=(1, 3, 5)).round().astype(np.uint8)
    return means


def _sheet(volume: Bytes3D, columns: int) -> Image.Image:
    depth, height, width = volume.shape
    rows = math.ceil(depth / columns)
    sheet = np.zeros((rows * height, columns * width), np.uint8)
    for row, column, plane in _places(volume, columns):
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = plane
    return Image.fromarray(sheet)


def _places(volume: Bytes3D, columns: int) -> Iterator[tuple[int, int, npt.NDArray[np.uint8]]]:
    for number, plane in enumerate(volume):
        yield number // columns, number % columns, plane


def _webp(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="WEBP", **options)
    return buffer.getvalue()
