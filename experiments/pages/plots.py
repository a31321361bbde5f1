"""How figures are drawn on every page: quiet axes, dots that don't hide one another, short names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from experiments.pages.svg import LINE, MUTED

WIDTH = 5.6
"""Inches of a figure that shares its row with another."""
MOST_POINTS = 400
"""A curve is averaged down to at most so many."""
Floats = npt.NDArray[np.float64]


def calm(axes: Axes, grid: str) -> None:
    """Nothing but a hairline grid along one axis (``x`` or ``y``) and small muted figures."""
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.grid(axis="x" if grid == "x" else "y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=MUTED)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(MUTED)
        label.set_fontsize(9)


def swarm(values: Sequence[float]) -> list[float]:
    """Sideways shifts, in rows, that keep dots of like value apart; values from 0 to 1."""
    counts: dict[int, int] = {}
    shifts = []
    for value in values:
        number = counts.get(round(value * 55), 0)
        counts[round(value * 55)] = number + 1
        shifts.append((number + 1) // 2 * (1 if number % 2 else -1) * 0.13)
    crowd = max((abs(shift) for shift in shifts), default=0.0)
    return [shift * min(1.0, 0.36 / crowd) if crowd else shift for shift in shifts]


def thinned(steps: Sequence[float], values: Sequence[float]) -> tuple[Floats, Floats]:
    """A curve as at most :data:`MOST_POINTS` means over like stretches."""
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if len(x) <= MOST_POINTS:
        return x, y
    groups = np.array_split(np.arange(len(x)), MOST_POINTS)
    return np.array([x[g].mean() for g in groups]), np.array([y[g].mean() for g in groups])


def smooth(values: Floats) -> Floats:
    """A centred moving mean over a twentieth of the curve that skips what is not a number."""
    reach = len(values) // 40
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return np.array([np.nanmean(w) if np.isfinite(w).any() else np.nan for w in windows])


def short(name: str, length: int = 22) -> str:
    """``name``, cut where it is longer."""
    return name if len(name) <= length else f"{name[: length - 1]}…"
