"""One picture of what a run found, fit for a slide: ``evaluation/overview.png``.

Left every case's Dice by site, right the median case of the source and of held-out sites.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from PIL import Image

from experiments.pages.plots import short, swarm
from experiments.pages.render import STYLE
from experiments.pages.words import number
from experiments.report.model import Results, SiteResult
from experiments.report.overlays import Slices, choice, read_slices, window

SIZE, DPI = (16.0, 9.0), 100
"""Inches, and pixels an inch."""
MOST_PICTURES = 5
PLANE = "axial"
SOLID, DASHED = (0, ()), (0, (2.2, 1.0))
Colours = Mapping[str, str]


def overview(results: Results) -> bytes:
    """The picture as PNG, 1600×900 pixels; the same bytes for the same results.

    Raises:
        UsageError: a file of slices can't be read.
    """
    colours = palette()
    drawn, png = io.BytesIO(), io.BytesIO()
    settings = {"font.family": "DejaVu Sans", "text.color": colours["ink"], "text.parse_math": False}
    # The fonts that come with Matplotlib and its defaults: a machine's own would alter the picture.
    with style.context(settings, after_reset=True):
        _figure(results, colours).savefig(drawn, format="png", dpi=DPI)
    _indexed(np.asarray(Image.open(drawn).convert("RGB"))).save(png, format="PNG", optimize=True)
    return png.getvalue()


def _indexed(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """The picture in 128 greys and 128 colours, which take half the space of H×W×3 ``pixels``."""
    grey = np.ptp(pixels, axis=-1) == 0
    levels = np.rint(np.linspace(0, 255, 128)).astype(np.uint8)
    index = np.rint(pixels[..., 0] * (127 / 255)).astype(np.uint8)
    # This way of choosing colours keeps those that cover much, as the palette's, as they are.
    coloured = Image.fromarray(pixels[~grey][None]).quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    index[~grey] = np.asarray(coloured)[0] + 128
    picture = Image.fromarray(index)
    picture.putpalette([*np.repeat(levels, 3).tolist(), *(coloured.getpalette() or [])])
    return picture


def palette() -> dict[str, str]:
    """The light colours of the report's page by name."""
    css = STYLE.read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): (#\w{6});", css[: css.index("}")]))


def pictured(results: Results) -> list[SiteResult]:
    """The source, then held-out sites; of more than fit, those from the best to the worst at even steps."""
    first = [results.source] if results.source else []
    places = MOST_PICTURES - len(first)
    held_out = list(results.held_out)
    if len(held_out) > places:
        ranked = sorted(held_out, key=lambda site: (-site.dice, site.name))
        kept = {ranked[round(step)].name for step in np.linspace(0, len(ranked) - 1, places)}
        held_out = [site for site in held_out if site.name in kept]
    return [*first, *held_out]


def _figure(results: Results, colours: Colours) -> Figure:
    figure = Figure(figsize=SIZE, facecolor="white")
    figure.text(0.025, 0.925, f"{short(results.name, 60)} · run {results.id}", fontsize=15, color=colours["muted"])
    figure.text(0.025, 0.865, _headline(results), fontsize=23, fontweight="bold")
    _strips(figure.add_axes((0.125, 0.105, 0.275, 0.70)), results.sites, colours)
    sites = pictured(results)
    columns = 3 if len(sites) > 3 else 2
    rows = -(-(len(sites) + 1) // columns)
    grid = figure.add_gridspec(rows, columns, left=0.43, right=0.985, bottom=0.04, top=0.795, wspace=0.05, hspace=0.13)
    for place, site in enumerate(sites):
        _picture(figure.add_subplot(grid[place // columns, place % columns]), site, colours)
    _legend(figure.add_subplot(grid[rows - 1, columns - 1]), results, colours)
    return figure


def _headline(results: Results) -> str:
    parts = []
    if results.source:
        parts.append(f"Source test Dice {number(results.source.dice)}")
    if results.held_out:
        n = len(results.held_out)
        parts.append(f"held-out {number(results.macro.get('dice'))} (mean of {n} site{'s' * (n != 1)})")
        parts.append(f"gap {number(results.gap.get('dice'))}")
    return " · ".join(parts) or "No case was evaluated"


def _strips(axes: Axes, sites: Sequence[SiteResult], colours: Colours) -> None:
    """A row per site: quartiles, median, every case, and the location prior as a tick."""
    for row, site in enumerate(sites):
        colour = _colour(site, colours)
        values = [value for value in site.values("dice") if math.isfinite(value)]
        if values:
            low, median, high = np.percentile(values, [25, 50, 75])
            axes.add_patch(Rectangle((low, row - 0.3), high - low, 0.6, color=colour, alpha=0.18, linewidth=0))
            axes.plot([median] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=3, solid_capstyle="butt")
        places = row + np.array(swarm(values))
        axes.plot(values, places, "o", color=colour, alpha=0.8, markersize=7.5, markeredgewidth=0)
        if site.location_prior is not None:
            axes.plot([site.location_prior] * 2, [row - 0.38, row + 0.38], color=colours["ink"], linewidth=2)
    axes.set_yticks(range(len(sites)), [f"{short(site.name, 15)}\n{number(site.dice)}" for site in sites])
    axes.set_ylim(max(len(sites), 1) - 0.45, -0.55)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel("Dice, case by case (below each name: the mean)", fontsize=13, color=colours["muted"])
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color=colours["line"], linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=14, labelcolor=colours["muted"])
    crowd = min(1.0, 9 / max(1, len(sites)))
    axes.tick_params(axis="y", labelsize=max(7.0, 15 * crowd), labelcolor=colours["ink"])


def _picture(axes: Axes, site: SiteResult, colours: Colours) -> None:
    """The site's median case: a slice, with the contours of label and prediction."""
    axes.set(xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)
    case = choice(site.cases)[-1][1] if site.cases else None
    name = axes.set_title(short(site.name, 15), loc="left", fontsize=13, color=_colour(site, colours), pad=6)
    name.set_fontweight("bold")
    if case is None or case.slices is None:
        axes.set_box_aspect(1)
        axes.text(0.5, 0.5, "no slices kept", color="white", fontsize=13, ha="center", transform=axes.transAxes)
        return
    axes.set_title(f"Dice {number(case.dice)}", loc="right", fontsize=13, pad=6)
    _slice(axes, next(slices for slices in read_slices(case.slices) if slices.plane == PLANE), colours)


def _slice(axes: Axes, slices: Slices, colours: Colours) -> None:
    rows, columns = window(slices)
    image, label, prediction = (a[rows, columns] for a in (slices.image, slices.label, slices.prediction))
    height, width = image.shape[0] * slices.aspect, image.shape[1]
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="bilinear")
    # Centres of the pixels, with one of padding on every side so that a contour at the border closes.
    x = np.arange(image.shape[1] + 2) - 0.5
    y = (np.arange(image.shape[0] + 2) - 0.5) * slices.aspect
    for mask, name, line in ((label, "label", SOLID), (prediction, "prediction", DASHED)):
        if mask.any():
            padded = np.pad(mask > 0, 1).astype(float)
            axes.contour(x, y, padded, [0.5], colors=[colours[name]], linewidths=2.4, linestyles=[line])
    half = max(height, width) / 2
    axes.set_xlim(width / 2 - half, width / 2 + half)
    axes.set_ylim(height / 2 + half, height / 2 - half)


def _legend(axes: Axes, results: Results, colours: Colours) -> None:
    axes.set_axis_off()
    dot = {"marker": "o", "markersize": 9, "linestyle": "", "markeredgewidth": 0}
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colours["label"], linewidth=3, linestyle=SOLID, label="label"),
        Line2D([], [], color=colours["prediction"], linewidth=3, linestyle=DASHED, label="prediction"),
    ]
    for there, name, text in (
        (results.source, "source", "source test case"),
        (results.held_out, "held-out", "held-out case"),
    ):
        if there:
            handles.append(Line2D([], [], color=colours[name], label=text, **dot))  # type: ignore[arg-type]  # see dot
    handles.append(Patch(color=colours["held-out"], alpha=0.25, linewidth=0, label="quartiles and median"))
    if any(site.location_prior is not None for site in results.sites):
        handles.append(
            Line2D([], [], color=colours["ink"], marker="|", markersize=15, linestyle="", label="location prior")
        )
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.0, 0.5), frameon=False, fontsize=14, handlelength=1.6,
        title="Median case, axial slice", title_fontsize=14, alignment="left", labelspacing=0.65,
    )  # fmt: skip


def _colour(site: SiteResult, colours: Colours) -> str:
    return colours["source" if site.role == "source_test" else "held-out"]
