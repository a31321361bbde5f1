"""The picture of a case's regions: a column a spacing, a row a view; the patient's right on the left."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from experiments.regions.measure import Regions
from lightning_modules.regions.structure import PARCEL_NAMES, REGION_NAMES

INK, LIGHT, MUTED = "#14181b", "#e4e7e6", "#9aa4a9"
COLOURS = dict(zip(PARCEL_NAMES, ("#1f8fe0", "#9fd0f7", "#f08a1d", "#fbd09a", "#2aa876", "#a5e0c6"), strict=True))
"""A third is a hue; its core is strong, its rim pale."""
NEAR, MID = "#ffffff", "#cfa9ff"
MARGIN = 30.0
"""Mm that are shown around the pancreas."""
DPI, TILE, GAP = 100, 330, 12
LEFT, RIGHT, TOP, BOTTOM = 40, 20, 72, 88
"""Pixels."""
VIEWS = {"axial": 2, "coronal": 1, "whole, from the front": 1}
"""The axis of d, h, w that a view looks along."""

T = TypeVar("T", bound=np.generic)
Cells = NDArray[np.int64]
Box = tuple[slice, ...]


def draw(found: Sequence[Regions], credit: str = "") -> bytes:
    """The picture as PNG, its colours indexed.

    Args:
        found: the regions of a case at one or more spacings.
        credit: a line at the foot.
    """
    picture, png = io.BytesIO(), io.BytesIO()
    settings = {"font.family": "DejaVu Sans", "text.color": LIGHT, "text.parse_math": False}
    with style.context(settings, after_reset=True):
        _figure(found, credit).savefig(picture, format="png", dpi=DPI)
    indexed = Image.open(picture).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    indexed.save(png, format="PNG", optimize=True)
    return png.getvalue()


def place(cells: Cells, axis: int) -> int:
    """The section along an axis with most of the three thirds, and most of each.

    Args:
        cells: d×h×w region ids.
        axis: of d, h, w.
    """
    others = tuple(a for a in range(3) if a != axis)
    pancreas = cells < len(PARCEL_NAMES)
    thirds = np.stack([((cells // 2 == third) & pancreas).sum(axis=others) for third in range(3)])
    score = (thirds > 0).sum(0) * np.log1p(cells.size) * len(thirds) + np.log1p(thirds).sum(0)
    return int(score.argmax())


def _figure(found: Sequence[Regions], credit: str) -> Figure:
    boxes = [_box(regions) for regions in found]
    sizes = [_size(regions, box) for regions, box in zip(found, boxes, strict=True)]
    size = tuple(max(sides) for sides in zip(*sizes, strict=True))
    frames = {view: _others(size, axis) for view, axis in VIEWS.items()}
    heights = {view: round(TILE * up / across) for view, (across, up) in frames.items()}
    wide = LEFT + len(found) * (TILE + GAP) - GAP + RIGHT
    high = TOP + sum(heights.values()) + GAP * (len(heights) - 1) + BOTTOM
    figure = Figure(figsize=(wide / DPI, high / DPI), dpi=DPI, facecolor=INK)
    for column, (regions, box) in enumerate(zip(found, boxes, strict=True)):
        left = LEFT + column * (TILE + GAP)
        figure.text(left / wide, 1 - 30 / high, f"{regions.spacing[0]:g} mm", fontsize=14, fontweight="bold")
        figure.text(left / wide, 1 - 54 / high, _said(regions), fontsize=8.5, color=MUTED)
        bottom = high - TOP
        for view, height in heights.items():
            bottom -= height
            axes = figure.add_axes((left / wide, bottom / high, TILE / wide, height / high), facecolor="black")
            _paint(axes, regions, box, view)
            _frame(axes, _others(sizes[column], VIEWS[view]), frames[view])
            if column == 0:
                figure.text(
                    (LEFT - 10) / wide, (bottom + height / 2) / high, view, fontsize=9, color=MUTED,
                    rotation=90, ha="right", va="center",
                )  # fmt: skip
            bottom -= GAP
    _legend(figure, credit, LEFT / wide, 54 / high, 14 / high)
    return figure


def _said(regions: Regions) -> str:
    cell, bounds = regions.stride * regions.spacing[0], regions.bounds
    return f"cells of {cell:g} mm · rim {bounds.rim:g} · near to {bounds.near:g} · mid to {bounds.mid:g} mm"


def _edges(regions: Regions) -> list[float]:
    """Mm of a cell along d, h, w."""
    return [regions.stride * edge for edge in regions.spacing]


def _size(regions: Regions, box: Box) -> tuple[float, ...]:
    """Mm of a box of cells along d, h, w."""
    return tuple((side.stop - side.start) * edge for side, edge in zip(box, _edges(regions), strict=True))


def _others(values: Sequence[float], axis: int) -> tuple[float, float]:
    across, up = (value for a, value in enumerate(values) if a != axis)
    return across, up


def _box(regions: Regions) -> Box:
    """The cells around the pancreas that are shown."""
    pancreas = regions.cells < len(PARCEL_NAMES)
    sides = []
    for axis, edge in enumerate(_edges(regions)):
        found = np.flatnonzero(pancreas.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = round(MARGIN / edge)
        last = min(int(found[-1]) + 1 + margin, pancreas.shape[axis])
        sides.append(slice(max(0, int(found[0]) - margin), last))
    return tuple(sides)


def _paint(axes: Axes, regions: Regions, box: Box, view: str) -> None:
    """One view in mm: image, parcels, ends of the rings. The view of the whole is a projection."""
    axis = VIEWS[view]
    cells = regions.cells[box]
    at = place(cells, axis)
    if view in ("axial", "coronal"):
        seen = _turned(np.take(cells, at, axis))
        voxel = (box[axis].start + at) * regions.stride + regions.stride // 2
        window = tuple(
            voxel if a == axis else slice(side.start * regions.stride, side.stop * regions.stride)
            for a, side in enumerate(box)
        )
        across, up = _others(_size(regions, box), axis)
        image = _turned(regions.image[window])
        axes.imshow(0.75 * image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear", extent=(0, across, up, 0))
        _rings(axes, seen, across, up)
    else:
        # The deepest cell of each ray, so that the core shows through the rim.
        inside = np.where(cells < len(PARCEL_NAMES), regions.distance[box], np.inf)
        seen = _turned(np.take_along_axis(cells, inside.argmin(axis, keepdims=True), axis).squeeze(axis))
        across, up = _others(_size(regions, box), axis)
    axes.imshow(_coloured(seen), interpolation="nearest", extent=(0, across, up, 0))


def _turned(section: NDArray[T]) -> NDArray[T]:
    """Rows from top to bottom, the patient's right on the left."""
    return section[::-1, ::-1].T


def _rings(axes: Axes, cells: Cells, across: float, up: float) -> None:
    rows, columns = cells.shape
    x, y = ((np.arange(n + 2) - 0.5) * side / n for n, side in ((columns, across), (rows, up)))
    for last, colour, line in (("near", NEAR, "solid"), ("mid", MID, "dashed")):
        inside = np.pad((cells <= REGION_NAMES.index(last)).astype(float), 1)
        axes.contour(x, y, inside, [0.5], colors=[colour], linewidths=1.3, linestyles=[line])


def _frame(axes: Axes, drawn: tuple[float, float], frame: tuple[float, float]) -> None:
    """The same millimetres in every column, what is drawn in the middle."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    x, y = ((shown - wanted) / 2 for shown, wanted in zip(drawn, frame, strict=True))
    axes.set_aspect("auto")
    axes.set_xlim(x, x + frame[0])
    axes.set_ylim(y + frame[1], y)


def _coloured(cells: Cells) -> NDArray[np.float32]:
    """…×4: the parcels in their colours, all else see-through."""
    table = np.zeros((len(REGION_NAMES), 4), np.float32)
    for i, name in enumerate(PARCEL_NAMES):
        table[i] = [*(int(COLOURS[name][k : k + 2], 16) / 255 for k in (1, 3, 5)), 0.92]
    return np.asarray(table[cells])


def _legend(figure: Figure, credit: str, left: float, upper: float, lower: float) -> None:
    handles: list[Patch | Line2D] = [Patch(color=c, label=name.replace("_", " ")) for name, c in COLOURS.items()]
    handles += [
        Line2D([], [], color=NEAR, linewidth=1.6, label="end of the near ring"),
        Line2D([], [], color=MID, linewidth=1.6, linestyle="dashed", label="end of the mid ring"),
    ]
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(left, upper), ncols=4, frameon=False, fontsize=9,
        labelcolor=LIGHT, handlelength=1.6, columnspacing=1.6, borderpad=0, borderaxespad=0,
    )  # fmt: skip
    figure.text(left, lower, f"The patient's right is on the left. {credit}".strip(), fontsize=8, color=MUTED)
