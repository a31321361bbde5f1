"""A scatter of cases, each a dot that tells what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.pages.plots import calm, short
from experiments.pages.svg import HELD_OUT, INK, MUTED, SERIES, SOURCE, inline

MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
SIDE = 3.2
"""Inches."""


@dataclass(frozen=True)
class Dot:
    """A case in a scatter.

    Attributes:
        group: its site.
        text: what it says.
        x: where it lies.
        y: where it lies.
    """

    group: str
    text: str
    x: float
    y: float


@dataclass(frozen=True)
class Look:
    """How the dots of a group look: a colour of the page and Matplotlib's name of a marker."""

    colour: str
    mark: str


def looks(groups: Sequence[str]) -> dict[str, Look]:
    """Looks that tell groups apart."""
    return {group: Look(SERIES[place % len(SERIES)], MARKS[place % len(MARKS)]) for place, group in enumerate(groups)}


def roles(held_out: Mapping[str, bool]) -> dict[str, Look]:
    """Looks that tell the source from held-out sites, by group."""
    return {group: Look(HELD_OUT if out else SOURCE, "o") for group, out in held_out.items()}


def scatter(
    dots: Sequence[Dot],
    looks: Mapping[str, Look],
    name: str,
    labels: tuple[str, str],
    description: str,
    *,
    equal: bool = False,
    zero: bool = False,
    legend: bool = False,
) -> Markup:
    """The dots on quiet axes.

    Args:
        dots: none of them without a place.
        looks: by group.
        name: unique on the page.
        labels: of x and y.
        description: what is to be seen, for those who can't see it.
        equal: both axes go from 0 to 1, with their diagonal.
        zero: a line where y is 0, signs at its figures.
        legend: name the groups.
    """
    figure = Figure(figsize=(SIDE, SIDE if equal else 0.78 * SIDE), layout="constrained")
    axes = figure.add_subplot()
    titles: dict[str, str | list[str]] = {}
    for place, (group, look) in enumerate(looks.items()):
        own = [dot for dot in dots if dot.group == group]
        if own:
            axes.plot(
                [dot.x for dot in own], [dot.y for dot in own], marker=look.mark, markersize=4.2, color=look.colour,
                alpha=0.75, markeredgewidth=0, linestyle="", gid=f"cases-{place}", label=short(group, 14),
            )  # fmt: skip
            titles[f"cases-{place}"] = [dot.text for dot in own]
    calm(axes, grid="x" if equal else "y")
    if equal:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
        axes.set_aspect("equal")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_yticks(np.linspace(0, 1, 6))
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if zero:
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:+.3g}".replace("-", "−") if value else "0")
        )
    axes.set_xlabel(labels[0], parse_math=False)
    axes.set_ylabel(labels[1], parse_math=False)
    if legend:
        axes.legend(loc="best", frameon=False, fontsize=8.5, labelcolor=INK, handletextpad=0.1, borderpad=0.1)
    return inline(figure, name, description, titles)
