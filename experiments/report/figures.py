"""The report's plots: every case of every site, and the training curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator

from experiments.pages.plots import WIDTH, calm, short, smooth, swarm, thinned
from experiments.pages.svg import HELD_OUT, INK, MUTED, SERIES, SOURCE, inline
from experiments.report.model import Curve, Results, SiteResult

TERMS = ("segmentation", "contrastive", "restoration", "consistency", "skeleton")
RINGS = ("near", "mid", "far")
SHARES = ("inside", "outside", "band_excess")


def strip_plot(sites: Sequence[SiteResult], metric: str, label: str) -> Markup:
    """Every case of every site as a dot on a scale from 0 to 1, with quartiles, median and the location prior.

    Args:
        sites: from top to bottom.
        metric: ``dice`` or ``nsd``; the location prior is marked for ``dice`` alone.
        label: of the axis.
    """
    figure = Figure(figsize=(WIDTH, 0.62 + 0.5 * len(sites)), layout="constrained")
    axes = figure.add_subplot()
    titles: dict[str, str | list[str]] = {}
    for row, site in enumerate(sites):
        colour = SOURCE if site.role == "source_test" else HELD_OUT
        values = np.asarray(site.values(metric), dtype=float)
        kept = [(case, value) for case, value in zip(site.cases, values, strict=True) if math.isfinite(value)]
        if kept:
            low, median, high = np.percentile([value for _, value in kept], [25, 50, 75])
            axes.add_patch(Rectangle((low, row - 0.3), high - low, 0.6, color=colour, alpha=0.16, linewidth=0))
            axes.plot([median, median], [row - 0.3, row + 0.3], color=colour, linewidth=2, solid_capstyle="butt")
        dots = [value for _, value in kept]
        if dots:
            axes.plot(
                dots, [row + shift for shift in swarm(dots)], marker="o", markersize=4.4, color=colour, alpha=0.75,
                markeredgewidth=0, linestyle="", gid=f"cases-{row}",
            )  # fmt: skip
            titles[f"cases-{row}"] = [f"{site.name} · {case.case}: {label} {value:.3f}" for case, value in kept]
        if metric == "dice" and site.location_prior is not None:
            gid = f"prior-{row}"
            axes.plot(site.location_prior, row, marker="d", markersize=6, markerfacecolor="none", color=MUTED, gid=gid)
            titles[gid] = f"{site.name}: a location prior alone scores {site.location_prior:.3f}"
    axes.set_yticks(range(len(sites)), [short(site.name) for site in sites], parse_math=False)
    axes.set_ylim(len(sites) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel(label)
    calm(axes, grid="x")
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
    summary = "; ".join(f"{site.name} median {site.statistics[metric].median:.2f}" for site in sites)
    return inline(figure, f"strip-{metric}", f"{label} of every case by site: {summary}", titles)


def training_plots(results: Results) -> list[tuple[str, Markup]]:
    """The training curves that the run logged, each with its heading."""
    curves = results.curves
    plots = []
    if losses := _named(curves, "loss", TERMS):
        plots.append(("Losses", _lines(losses, TERMS, "losses", "loss (log scale)", log=True)))
    if "val/dice" in curves:
        plots.append(("Dice on source validation", _validation(curves["val/dice"])))
    if norms := _named(curves, "grad_norm", TERMS):
        plot = _lines(norms, TERMS, "norms", "norm (log scale)", log=True)
        plots.append(("Gradient norms on the shared encoder", plot))
    if fill := {name.partition("/")[2]: c for name, c in curves.items() if name.startswith("fill/")}:
        plots.append(("Fill of the regions, mean over training", _fill(fill)))
    if cosines := _named(curves, "cosine", RINGS):
        plots.append(("Likeness of the pancreas to each ring", _lines(cosines, RINGS, "cosines", "mean cosine")))
    if shares := _named(curves, "region", SHARES):
        plots.append(("Where M lies", _lines(shares, SHARES, "m", "share")))
    return plots


def _named(curves: Mapping[str, Curve], group: str, names: Sequence[str]) -> dict[str, Curve]:
    """The curves of a group that the run has."""
    return {name: curves[f"{group}/{name}"] for name in names if f"{group}/{name}" in curves}


def _lines(curves: dict[str, Curve], names: Sequence[str], plot: str, label: str, log: bool = False) -> Markup:
    """Some of the curves ``names``, each in the colour that it has where all are there."""
    figure, axes = _panel()
    colours = dict(zip(names, SERIES, strict=False))
    for name, curve in curves.items():
        steps, values = thinned(curve.steps, curve.values)
        if log:
            values = np.where(values > 0, values, np.nan)
        axes.plot(steps, values, color=colours[name], linewidth=0.8, alpha=0.35)
        axes.plot(steps, smooth(values), color=colours[name], linewidth=1.7, label=name.replace("_", " "))
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(_ticks(*axes.get_ylim()))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel(label)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(curves), frameon=False, fontsize=9, labelcolor=INK,
        handlelength=1.4, borderaxespad=0.2, columnspacing=1.4,
    )  # fmt: skip
    ends = "; ".join(f"{name} ends at {curve.values[-1]:.3g}" for name, curve in curves.items())
    return inline(figure, plot, f"{label} by training step: {ends}", points=_said(curves))


def _ticks(low: float, high: float) -> Locator:
    """Of a log scale: decades alone leave a short one without a number to read it by."""
    if high < 4 * low:
        return MaxNLocator(4)
    return LogLocator(subs=(1, 2, 5)) if high < 100 * low else LogLocator(numticks=6)


def _said(curves: Mapping[str, Curve]) -> list[tuple[float, str]]:
    """What the curves are at each step that is drawn."""
    told: dict[float, list[str]] = {}
    for name, curve in curves.items():
        for step, value in zip(*thinned(curve.steps, curve.values), strict=True):
            told.setdefault(float(step), []).append(f"{name.replace('_', ' ')} {value:.4g}")
    return [(step, "\n".join([f"step {step:,.0f}".replace(",", " "), *lines])) for step, lines in sorted(told.items())]


def _validation(curve: Curve) -> Markup:
    figure, axes = _panel()
    axes.plot(curve.steps, curve.values, color=SOURCE, linewidth=1.7)
    best = int(np.nanargmax(curve.values)) if np.isfinite(curve.values).any() else 0
    axes.plot(curve.steps[best], curve.values[best], marker="o", color=SOURCE, markersize=6)
    axes.annotate(
        f"best {curve.values[best]:.3f}", (curve.steps[best], curve.values[best]), xytext=(0, 7),
        textcoords="offset points", color=INK, fontsize=9,
        ha="right" if best > len(curve.steps) / 2 else "left",
    )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("Dice")
    text = f"Dice on source validation by training step: best {curve.values[best]:.3f} at step {curve.steps[best]}"
    return inline(figure, "validation", text, points=_said({"Dice": curve}))


def _fill(curves: dict[str, Curve]) -> Markup:
    figure, axes = _panel()
    means = [float(np.nanmean(curve.values)) for curve in curves.values()]
    rows = range(len(means))
    bars = axes.barh(rows, means, height=0.62, color=SOURCE, alpha=0.75, linewidth=0)
    titles = {}
    for row, (bar, name, mean) in enumerate(zip(bars, curves, means, strict=True)):
        bar.set_gid(f"bar-{row}")
        titles[f"bar-{row}"] = f"{name.replace('_', ' ')}: {mean:.4f} of the slots are filled"
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
    calm(axes, grid="x")
    axes.set_xlabel("share")
    text = "; ".join(f"{name} {mean:.2f}" for name, mean in zip(curves, means, strict=True))
    return inline(figure, "fill", f"Mean fill of each region over training: {text}", titles)


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.add_subplot()
    calm(axes, grid="y")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", " ")))
    return figure, axes
