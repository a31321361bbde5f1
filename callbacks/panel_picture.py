"""The picture of a panel: a row a sample, a column for each thing that the module sees or makes of it.

Slices are axial, as radiologists look at them: the patient's right on the left, the front upwards.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_modules.config import Preprocessing
from lightning_modules.panel import Look

Pixels = NDArray[np.float32]

ROWS = 3
"""At most so many samples of a batch are shown, those with the most pancreas."""
DPI = 100
TILE, GAP = 192, 10
"""Pixels: the longer side of a slice, and what lies between two."""
LEFT, RIGHT, TOP, BOTTOM = 36, 20, 104, 20
"""Pixels around them."""
INK, LIGHT, MUTED = "#14181b", "#e4e7e6", "#9aa4a9"
LABEL, PREDICTION, REGION, CELLS = "#6ec6ff", "#ffb000", "#e58fc2", "#3fbf97"
NOTES = {
    "image": ("label outlined", LABEL),
    "uncertainty": ("entropy, 0 to 1 bit", MUTED),
    "M": ("where it is uncertain", REGION),
    "corrupted": ("cells outlined", CELLS),
    "restored": ("from what was left", MUTED),
    "prediction": ("probability, 0 to 1", PREDICTION),
    "label": ("to be found", LABEL),
}
"""The columns in their order: what stands below the name, and its colour."""


class Tile(NamedTuple):
    """One slice as it is drawn."""

    pixels: Pixels
    """H×W×3 in [0, 1], rows from top to bottom."""
    outlines: list[tuple[Pixels, str]]
    """Masks H×W and the colours of their outlines."""


def draw(seen: Look, step: int, steps: int, preprocessing: Preprocessing) -> bytes:
    """The picture as PNG; the same bytes for the same arguments.

    Columns: image, uncertainty, M, corrupted, restored, prediction, label, less those that the run does not have.

    Args:
        seen: the batch.
        step: optimiser steps done.
        steps: of the whole run.
        preprocessing: tells window and spacing.
    """
    rows = _rows(seen)
    tiles = [_tiles(seen, sample, slice_) for sample, slice_ in rows]
    columns = list(tiles[0])
    notes = [f"{seen.case[sample]}, slice {slice_}" for sample, slice_ in rows]
    described = {"Title": f"Step {step} of {steps}", "Description": f"{', '.join(columns)} of {'; '.join(notes)}"}
    picture = io.BytesIO()
    settings = {"font.family": "DejaVu Sans", "text.color": LIGHT, "text.parse_math": False}
    # The fonts that come with Matplotlib and its defaults: a machine's own would alter the picture.
    with style.context(settings, after_reset=True):
        figure = _figure(tiles, notes, step, steps, preprocessing)
        figure.savefig(picture, format="png", dpi=DPI, metadata={"Software": None, **described})
    return picture.getvalue()


def _rows(seen: Look) -> list[tuple[int, int]]:
    """Sample and slice of each row, in the order of the batch; without pancreas the slice in the middle."""
    profiles = seen.label[:, 0].sum((1, 2)).numpy()
    most = np.argsort(-profiles.sum(1), kind="stable")[:ROWS]
    return [
        (int(sample), int(profile.argmax()) if profile.any() else len(profile) // 2)
        for sample in sorted(most)
        for profile in [profiles[sample]]
    ]


def _tiles(seen: Look, sample: int, slice_: int) -> dict[str, Tile]:
    """The slice in every column that there is, in their order."""

    def cut(name: str) -> Pixels | None:
        volume = getattr(seen, name)
        return None if volume is None else np.asarray(volume[sample, 0, :, :, slice_])[::-1, ::-1].T

    image, label = cut("image"), cut("label")
    uncertainty, region, corrupted, mask, restored, prediction = (
        cut(name) for name in ("uncertainty", "region", "corrupted", "mask", "restored", "prediction")
    )
    assert image is not None
    assert label is not None
    outline = (label, LABEL)
    tiles = {"image": Tile(_grey(image), [outline])}
    if uncertainty is not None:
        heat = np.asarray(colormaps["magma"](uncertainty)[..., :3], np.float32)
        # Faint: late in training what is uncertain lies under the outline.
        tiles["uncertainty"] = Tile(heat, [(label, f"{LABEL}60")])
    if region is not None and corrupted is not None and mask is not None:
        tiles |= {
            "M": Tile(_tinted(image, region, REGION), [outline]),
            "corrupted": Tile(_grey(corrupted), [(mask, CELLS)]),
        }
    if restored is not None:
        tiles["restored"] = Tile(_grey(restored), [])
    if prediction is not None:
        tiles["prediction"] = Tile(_tinted(image, prediction, PREDICTION), [outline])
    return tiles | {"label": Tile(_tinted(image, label, LABEL), [])}


def _grey(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=-1).clip(0, 1)


def _tinted(image: Pixels, share: Pixels, colour: str) -> Pixels:
    """A darkened image under a colour, the denser the higher ``share`` in [0, 1]."""
    tint = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)
    veil = np.float32(0.75) * share[..., None].clip(0, 1)
    return np.asarray((1 - veil) * np.float32(0.6) * _grey(image) + veil * tint)


def _figure(
    tiles: list[dict[str, Tile]], notes: list[str], step: int, steps: int, preprocessing: Preprocessing
) -> Figure:
    across, up = (preprocessing.spacing[axis] * preprocessing.patch_size[axis] for axis in (0, 1))
    width, height = (round(TILE * side / max(across, up)) for side in (across, up))
    wide = LEFT + len(tiles[0]) * (width + GAP) - GAP + RIGHT
    high = TOP + len(tiles) * (height + GAP) - GAP + BOTTOM
    figure = Figure(figsize=(wide / DPI, high / DPI), dpi=DPI, facecolor=INK)
    figure.text(LEFT / wide, 1 - 18 / high, f"Step {step} of {steps}", fontsize=15, fontweight="bold", va="top")
    figure.text(1 - RIGHT / wide, 1 - 22 / high, _units(preprocessing), fontsize=9, color=MUTED, va="top", ha="right")
    for column, name in enumerate(tiles[0]):
        x = (LEFT + column * (width + GAP)) / wide
        note, colour = NOTES[name]
        figure.text(x, 1 - 77 / high, name, fontsize=11, fontweight="bold")
        figure.text(x, 1 - (TOP - 8) / high, note, fontsize=8.5, color=colour)
    for row, (samples, note) in enumerate(zip(tiles, notes, strict=True)):
        bottom = high - TOP - row * (height + GAP) - height
        figure.text(
            (LEFT - 9) / wide, (bottom + height / 2) / high, note, fontsize=8, color=MUTED,
            rotation=90, ha="right", va="center",
        )  # fmt: skip
        for column, tile in enumerate(samples.values()):
            left = LEFT + column * (width + GAP)
            _paint(figure.add_axes((left / wide, bottom / high, width / wide, height / high)), tile)
    return figure


def _units(preprocessing: Preprocessing) -> str:
    low, high = (f"{hu:g}".replace("-", "−") for hu in preprocessing.window)
    spacing = " × ".join(f"{edge:g}" for edge in preprocessing.spacing)
    return f"HU {low} to {high}  ·  {spacing} mm  ·  axial, the patient's right on the left"


def _paint(axes: Axes, tile: Tile) -> None:
    rows, columns = tile.pixels.shape[:2]
    axes.set_axis_off()
    axes.imshow(tile.pixels, extent=(0, columns, rows, 0), interpolation="nearest", aspect="auto")
    # Centres of the pixels, with one of padding on every side so that an outline at the border closes.
    x, y = np.arange(columns + 2) - 0.5, np.arange(rows + 2) - 0.5
    for mask, colour in tile.outlines:
        if mask.any():
            axes.contour(x, y, np.pad(mask > 0.5, 1).astype(float), [0.5], colors=[colour], linewidths=1.1)
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
