"""The page's plots: what each factor costs, and a curve of every run along every factor."""

from __future__ import annotations

import math

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.comparison.words import plus
from experiments.ladder.found import Curve, Ladder
from experiments.ladder.plan import Factor
from experiments.ladder.words import ranged
from experiments.pages.plots import WIDTH, calm, short
from experiments.pages.svg import INK, MUTED, SERIES, inline
from experiments.pages.words import number

MOST_RUNS = 9
"""As many can be told apart: three colours and three strokes."""
LABELS = {"dice": "Dice", "nsd": "NSD"}
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_MARKS = ("o", "s", "^")
_STEPS = (1, 2, 5, 10)
"""Between ticks, so that two decimals write them."""
_LEAST = 0.05
"""Lost Dice that the scale of the costs reaches at least, so that two decimals write its ticks."""
_SMALL = 3.7
"""Inches of a figure of which three share a row."""


def costs(found: Ladder) -> Markup:
    """The change in Dice at the highest level by factor, each with its interval; the first run's worst on top."""
    order, runs = found.by_cost(found.climbs[0]), found.climbs
    step = len(runs) + 0.8
    figure = Figure(figsize=(2 * WIDTH, 0.75 + 0.24 * step * len(order)), layout="constrained")
    axes = figure.add_subplot()
    titles = {}
    for block, factor in enumerate(order):
        for row, climb in enumerate(runs):
            cost, at, gid = climb.curves[factor.name, "dice"].cost, block * step + row, f"case-{block}-{row}"
            colour, _, mark = _style(row)
            if math.isfinite(cost.low):
                axes.plot([cost.low, cost.high], [at, at], color=colour, linewidth=2, alpha=0.7)
            axes.plot(cost.value, at, marker=mark, markersize=6, color=colour, markeredgewidth=0, gid=gid)
            titles[gid] = f"{climb.name} · {factor.said} at {found.top:g}: {ranged(cost, signed=True)}"
    axes.axvline(0, color=MUTED, linewidth=0.8)
    calm(axes, grid="x")
    middle = (len(runs) - 1) / 2
    axes.set_yticks([block * step + middle for block in range(len(order))], [factor.said for factor in order])
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
    axes.set_ylim(step * len(order) - 1.0, -0.8)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -_LEAST), high)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plus(value, 2)))
    axes.set_xlabel(f"change in Dice from level 0 to {found.top:g}")
    said = "; ".join(f"{f.said} {plus(runs[0].curves[f.name, 'dice'].cost.value)}" for f in order)
    return inline(figure, "costs", f"Change in Dice of {runs[0].name} by factor: {said}", titles)


def curves(found: Ladder, metric: str) -> list[tuple[Factor, Markup]]:
    """A plot a factor, all on one scale, that first which costs the first run most."""
    low, high = _span(found, metric)
    return [(factor, _curve(found, factor, metric, (low, high))) for factor in found.by_cost(found.climbs[0])]


def _curve(found: Ladder, factor: Factor, metric: str, span: tuple[float, float]) -> Markup:
    figure = Figure(figsize=(_SMALL, 2.7), layout="constrained")
    axes = figure.add_subplot()
    if len(found.climbs) == 1:
        for values in found.climbs[0].curves[factor.name, metric].values.T:
            axes.plot(found.levels, values, color=MUTED, linewidth=0.7, alpha=0.35)
    for place, climb in enumerate(found.climbs):
        own = climb.curves[factor.name, metric]
        colour, dash, mark = _style(place)
        lows, highs = zip(*_band(own), strict=True)
        axes.fill_between(found.levels, lows, highs, color=colour, alpha=0.16, linewidth=0)
        axes.plot(
            found.levels, [mean.value for mean in own.means], color=colour, linestyle=dash, linewidth=1.9, marker=mark,
            markersize=4, markeredgewidth=0,
        )  # fmt: skip
    calm(axes, grid="y")
    axes.set_xlim(-0.03, found.top + 0.03)
    axes.set_ylim(*span)
    axes.set_xticks(found.levels, [f"{level:g}" for level in found.levels])
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2f}"))
    axes.set_xlabel(f"level of {factor.said}")
    axes.set_ylabel(LABELS[metric])
    points = [(level, _said(found, factor, metric, place)) for place, level in enumerate(found.levels)]
    ends = "; ".join(
        f"{c.name} from {number(c.curves[factor.name, metric].means[0].value)} to "
        f"{number(c.curves[factor.name, metric].means[-1].value)}"
        for c in found.climbs
    )
    text = f"{LABELS[metric]} along {factor.said}: {ends}"
    return inline(figure, f"{metric}-{factor.name}", text, points=points)


def _said(found: Ladder, factor: Factor, metric: str, place: int) -> str:
    """What the pointer is told at a level."""
    told = []
    for climb in found.climbs:
        own = climb.curves[factor.name, metric]
        change = f", {ranged(own.changes[place], signed=True)} from 0" if place else ""
        told.append(f"{short(climb.name)}: {LABELS[metric]} {number(own.means[place].value)}{change}")
    return "\n".join([f"{factor.said} {found.levels[place]:g}", *told])


def _band(curve: Curve) -> list[tuple[float, float]]:
    """By level, the mean at level 0 and the interval of the change from there."""
    start = curve.means[0].value
    return [
        (start + change.low, start + change.high) if math.isfinite(change.low) else (mean.value, mean.value)
        for mean, change in zip(curve.means, curve.changes, strict=True)
    ]


def _span(found: Ladder, metric: str) -> tuple[float, float]:
    """From a tenth below to a tenth above all that is drawn, within 0 to 1."""
    own = [climb.curves[factor.name, metric] for climb in found.climbs for factor in found.factors]
    drawn = [end for curve in own for band in _band(curve) for end in band]
    if len(found.climbs) == 1:
        drawn += [float(value) for curve in own for value in curve.values.ravel()]
    low, high = math.floor(min(drawn) * 10) / 10, math.ceil(max(drawn) * 10) / 10
    return max(-0.02, low - 0.02), min(1.02, max(high, low + 0.1) + 0.02)


def key(found: Ladder) -> list[tuple[str, Markup]]:
    """The runs, each with a piece of its line."""
    return [(climb.name, _sample(place)) for place, climb in enumerate(found.climbs)]


def _sample(place: int) -> Markup:
    figure = Figure(figsize=(0.5, 0.16))
    axes = figure.add_axes((0, 0, 1, 1))
    colour, dash, mark = _style(place)
    axes.plot([0, 1], [0, 0], color=colour, linestyle=dash, linewidth=1.9)
    axes.plot([0.5], [0], color=colour, marker=mark, markersize=5, markeredgewidth=0)
    axes.set_axis_off()
    return inline(figure, f"key-{place}", "")


def _style(place: int) -> tuple[str, object, str]:
    return SERIES[place % len(SERIES)], _DASHES[place // len(SERIES) % len(_DASHES)], _MARKS[place // len(SERIES) % 3]
