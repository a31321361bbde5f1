"""The pictures of a sweep: its history, its trials in parallel coordinates, and how much each parameter matters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.pages.plots import WIDTH, calm, short
from experiments.pages.svg import HELD_OUT, INK, LINE, MUTED, PAPER, SOURCE, inline
from experiments.sweep.study import Shown


def history(trials: Sequence[Shown], metric: str, maximize: bool) -> Markup:
    """What each trial has measured, and the best so far."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.add_subplot()
    titles, best, steps = {}, math.nan, []
    for trial in trials:
        if trial.value is None:
            continue
        gid = f"trial-{trial.number}"
        hollow = trial.state == "pruned"
        axes.plot(
            trial.number, trial.value, marker="o", markersize=5, color=SOURCE, gid=gid, linestyle="none",
            markerfacecolor="none" if hollow else SOURCE, alpha=0.85,
        )  # fmt: skip
        titles[gid] = f"trial {trial.number} ({trial.state}): {metric} {trial.value:.4f}"
        if trial.state == "done":
            best = trial.value if math.isnan(best) else (max if maximize else min)(best, trial.value)
            steps.append((trial.number, best))
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color=HELD_OUT, linewidth=1.4)
    calm(axes, grid="y")
    axes.set_xlabel("trial")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return inline(figure, "history", f"{metric} of each trial, and the best so far: {best:.4f}", titles)


def parallel(trials: Sequence[Shown], keys: Sequence[str], names: Sequence[str], metric: str, best: Shown) -> Markup:
    """Each trial as a line through its parameters to what it has measured; the best one stands out.

    Args:
        trials: those with a value.
        keys: of the parameters, from left to right.
        names: of the axes.
        metric: the last axis.
        best: the best trial.
    """
    figure = Figure(figsize=(2 * WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    columns = [[trial.values[key] for trial in trials] for key in keys] + [[trial.value for trial in trials]]
    heights = []
    for place, column in enumerate(columns):
        height, ticks = _scaled(column)
        heights.append(height)
        axes.plot([place, place], [0, 1], color=LINE, linewidth=1)
        for at, label in ticks:
            axes.annotate(
                short(label, 14), (place, at), xytext=(5, 0), textcoords="offset points", va="center", color=MUTED,
                fontsize=8, parse_math=False, zorder=5,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
            )  # fmt: skip
    titles = {}
    for row, trial in enumerate(trials):
        gid = f"line-{trial.number}"
        own = trial.number == best.number
        axes.plot(
            range(len(columns)), [height[row] for height in heights], color=HELD_OUT if own else SOURCE, gid=gid,
            linewidth=2.2 if own else 1.1, alpha=1 if own else 0.45, zorder=3 if own else 2,
        )  # fmt: skip
        said = ", ".join(f"{name} {trial.values[key]}" for key, name in zip(keys, names, strict=True))
        titles[gid] = f"trial {trial.number}: {metric} {trial.value:.4f}; {said}"
    _bare(axes, [*names, metric])
    text = f"{len(trials)} trials in parallel coordinates; the best is trial {best.number}"
    return inline(figure, "parallel", text, titles)


def importance(importances: Mapping[str, float], names: Mapping[str, str]) -> Markup:
    """How much each parameter matters, the most important on top."""
    figure = Figure(figsize=(WIDTH, 0.7 + 0.36 * len(importances)), layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(importances))
    bars = axes.barh(rows, list(importances.values()), height=0.62, color=SOURCE, alpha=0.75, linewidth=0)
    titles = {f"bar-{row}": f"{names[key]}: {value:.3f}" for row, (key, value) in enumerate(importances.items())}
    for row, bar in enumerate(bars):
        bar.set_gid(f"bar-{row}")
    for row, value in zip(rows, importances.values(), strict=True):
        axes.annotate(
            f"{value:.2f}", (value, row), xytext=(4, 0), textcoords="offset points", va="center", color=INK, fontsize=9
        )
    axes.set_yticks(rows, [short(names[key]) for key in importances], parse_math=False)
    axes.set_ylim(len(importances) - 0.4, -0.6)
    axes.set_xlim(0, 1.15 * max(1e-9, *importances.values()))
    calm(axes, grid="x")
    axes.set_xlabel("importance (PED-ANOVA)")
    text = "; ".join(f"{names[key]} {value:.2f}" for key, value in importances.items())
    return inline(figure, "importance", f"Importance of each parameter: {text}", titles)


def _scaled(column: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights from 0 to 1 for the values of an axis, and its labels: by the logarithm where they span a decade."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in column)
    if not numbers or len({*map(str, column)}) <= 2:
        known = sorted({*map(str, column)}, key=lambda text: (not numbers, float(text) if numbers else 0, text))
        at = {text: 0.5 if len(known) == 1 else place / (len(known) - 1) for place, text in enumerate(known)}
        return [at[str(value)] for value in column], [(height, _shown(text)) for text, height in at.items()]
    low, high = min(column), max(column)
    scale = math.log if low > 0 and high / low >= 10 else float
    span = scale(high) - scale(low)
    heights = [(scale(value) - scale(low)) / span for value in column]
    return heights, [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]


def _shown(text: str) -> str:
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text


def _bare(axes: Axes, names: Sequence[str]) -> None:
    calm(axes, grid="x")
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.set_ylim(-0.06, 1.06)
    axes.set_xlim(-0.1, len(names) - 0.6)
    axes.set_xticks(range(len(names)), [short(name, 18) for name in names], parse_math=False)
