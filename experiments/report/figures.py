"""The report's plots: every case of every site, and the training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from experiments.report.model import Curve, Results, SiteResult
from experiments.report.svg import HELD_OUT, INK, LINE, MUTED, SERIES, SOURCE, inline

WIDTH = 5.6  # inches
TERMS = ("segmentation", "contrastive", "restoration")
_POINTS = 400  # a curve is averaged down to at most so many


def strip_plot(sites: Sequence[SiteResult], metric: str, label: str) -> Markup:
    """Every case of every site as a dot on a scale from 0 to 1, with quartiles, median and the location prior.

    Args:
        sites: from top to bottom.
        metric: ``dice`` or ``nsd``; the location prior is marked for ``dice`` alone.
        label: of the axis.
    """
    figure = Figure(figsize=(WIDTH, 0.62 + 0.5 * len(sites)), layout="constrained")
    axes = figure.add_subplot()
    titles = {}
    for row, site in enumerate(sites):
        colour = SOURCE if site.role == "source_test" else HELD_OUT
        values = np.asarray(site.values(metric), dtype=float)
        kept = [(case, value) for case, value in zip(site.cases, values, strict=True) if math.isfinite(value)]
        if kept:
            low, median, high = np.percentile([value for _, value in kept], [25, 50, 75])
            axes.add_patch(Rectangle((low, row - 0.3), high - low, 0.6, color=colour, alpha=0.16, linewidth=0))
            axes.plot([median, median], [row - 0.3, row + 0.3], color=colour, linewidth=2, solid_capstyle="butt")
        for number, ((case, value), shift) in enumerate(zip(kept, swarm([value for _, value in kept]), strict=True)):
            gid = f"case-{row}-{number}"
            axes.plot(
                value,
                row + shift,
                marker="o",
                markersize=4.4,
                color=colour,
                alpha=0.75,
                markeredgewidth=0,
                gid=gid,
            )
            titles[gid] = f"{site.name} · {case.case}: {label} {value:.3f}"
        if metric == "dice" and site.location_prior is not None:
            gid = f"prior-{row}"
            axes.plot(site.location_prior, row, marker="d", markersize=6, markerfacecolor="none", color=MUTED, gid=gid)
            titles[gid] = f"{site.name}: a location prior alone scores {site.location_prior:.3f}"
    axes.set_yticks(range(len(sites)), [short(site.name) for site in sites], parse_math=False)
    axes.set_ylim(len(sites) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel(label)
    _calm(axes, grid="x")
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
    summary = "; ".join(f"{site.name} median {site.statistics[metric].median:.2f}" for site in sites)
    return inline(figure, f"strip-{metric}", f"{label} of every case by site: {summary}", titles)


def training_plots(results: Results) -> list[tuple[str, Markup]]:
    """The training curves that the run logged, each with its heading."""
    curves = results.curves
    plots = []
    if losses := {term: curves[f"loss/{term}"] for term in TERMS if f"loss/{term}" in curves}:
        plots.append(("Losses", _lines(losses, "losses", "loss (log scale)", log=True)))
    if "val/dice" in curves:
        plots.append(("Dice on source validation", _validation(curves["val/dice"])))
    if norms := {term: curves[f"grad_norm/{term}"] for term in TERMS if f"grad_norm/{term}" in curves}:
        plots.append(("Gradient norms on the shared encoder", _lines(norms, "norms", "norm (log scale)", log=True)))
    if fill := {name.partition("/")[2]: c for name, c in curves.items() if name.startswith("fill/")}:
        plots.append(("Fill of the regions, mean over training", _fill(fill)))
    return plots


def _lines(curves: dict[str, Curve], name: str, label: str, log: bool) -> Markup:
    figure, axes = _panel()
    colours = dict(zip(TERMS, SERIES, strict=True))
    for term, curve in curves.items():
        steps, values = _thinned(curve)
        if log:
            values = np.where(values > 0, values, np.nan)
        axes.plot(steps, values, color=colours[term], linewidth=0.8, alpha=0.35)
        axes.plot(steps, _smooth(values), color=colours[term], linewidth=1.7, label=term)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel(label)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(curves), frameon=False, fontsize=9, labelcolor=INK,
        handlelength=1.4, borderaxespad=0.2, columnspacing=1.4,
    )  # fmt: skip
    ends = "; ".join(f"{term} ends at {curve.values[-1]:.3g}" for term, curve in curves.items())
    return inline(figure, name, f"{label} by training step: {ends}")


def _validation(curve: Curve) -> Markup:
    figure, axes = _panel()
    axes.plot(curve.steps, curve.values, color=SOURCE, linewidth=1.7)
    best = int(np.nanargmax(curve.values)) if np.isfinite(curve.values).any() else 0
    axes.plot(curve.steps[best], curve.values[best], marker="o", color=SOURCE, markersize=6, gid="best")
    axes.annotate(
        f"best {curve.values[best]:.3f}", (curve.steps[best], curve.values[best]), xytext=(0, 7),
        textcoords="offset points", color=INK, fontsize=9,
        ha="right" if best > len(curve.steps) / 2 else "left",
    )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("Dice")
    text = f"Dice on source validation by training step: best {curve.values[best]:.3f} at step {curve.steps[best]}"
    return inline(figure, "validation", text, {"best": f"step {curve.steps[best]}: {curve.values[best]:.4f}"})


def _fill(curves: dict[str, Curve]) -> Markup:
    figure, axes = _panel()
    means = [float(np.nanmean(curve.values)) for curve in curves.values()]
    rows = range(len(means))
    axes.barh(rows, means, height=0.62, color=SOURCE, alpha=0.75, linewidth=0)
    for row, mean in zip(rows, means, strict=True):
        axes.annotate(
            f"{mean:.2f}",
            (mean, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize=9,
        )
    axes.set_yticks(rows, [name.replace("_", " ") for name in curves], parse_math=False)
    axes.set_ylim(len(means) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * max(1.0, *means))
    _calm(axes, grid="x")
    axes.set_xlabel("share")
    text = "; ".join(f"{name} {mean:.2f}" for name, mean in zip(curves, means, strict=True))
    return inline(figure, "fill", f"Mean fill of each region over training: {text}")


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.add_subplot()
    _calm(axes, grid="y")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", " ")))
    return figure, axes


def _calm(axes: Axes, grid: str) -> None:
    """Nothing but a hairline grid along one axis and small muted figures."""
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.grid(axis="x" if grid == "x" else "y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=MUTED)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(MUTED)
        label.set_fontsize(9)


def swarm(values: Sequence[float]) -> list[float]:
    """Sideways shifts, in rows, that keep dots of like value apart."""
    counts: dict[int, int] = {}
    shifts = []
    for value in values:
        number = counts.get(round(value * 55), 0)
        counts[round(value * 55)] = number + 1
        shifts.append((number + 1) // 2 * (1 if number % 2 else -1) * 0.13)
    crowd = max((abs(shift) for shift in shifts), default=0.0)
    return [shift * min(1.0, 0.36 / crowd) if crowd else shift for shift in shifts]


def _thinned(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """The curve as at most ``_POINTS`` means over like stretches."""
    steps, values = np.asarray(curve.steps, dtype=float), np.asarray(curve.values, dtype=float)
    if len(steps) <= _POINTS:
        return steps, values
    groups = np.array_split(np.arange(len(steps)), _POINTS)
    return np.array([steps[g].mean() for g in groups]), np.array([values[g].mean() for g in groups])


def _smooth(values: np.ndarray) -> np.ndarray:
    """A centred moving mean over a twentieth of the curve that skips what is not a number."""
    reach = len(values) // 40
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return np.array([np.nanmean(w) if np.isfinite(w).any() else np.nan for w in windows])


def short(name: str, length: int = 22) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
