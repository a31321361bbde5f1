"""The card's figures: HU inside and around the pancreas, and every case of every site by quantity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from datamodules.case_statistics import BINS
from experiments.data_card.model import QUANTITIES, CardSite, Quantity
from experiments.pages.plots import short, swarm
from experiments.pages.svg import HELD_OUT, INK, LINE, MUTED, SOURCE, inline

WIDTH = 11.6  # inches
SHOWN = ("contrast_hu", "vessels_hu", "fat_percent", "volume_ml", "slice_mm", "height_mm")


def hu_distributions(sites: Sequence[CardSite]) -> Markup:
    """A ridge a site: HU in the pancreas as an area, in its ring as a line, the source's pancreas dotted behind."""
    first, last, width = BINS
    centres = np.arange(first, last, width) + width / 2
    figure = Figure(figsize=(WIDTH, 0.7 + 0.78 * len(sites)), layout="constrained")
    axes = figure.add_subplot()
    source = np.array(sites[0].share("pancreas"))
    highest = max(max(*site.share("pancreas"), *site.share("ring")) for site in sites)
    for row, site in enumerate(sites):
        base, scale = float(row), -0.92 / highest
        inside, ring = np.array(site.share("pancreas")), np.array(site.share("ring"))
        if row:
            axes.plot(centres, base + scale * source, color=SOURCE, linewidth=1, linestyle=(0, (1, 2)))
        axes.fill_between(centres, base, base + scale * inside, color=_colour(site), alpha=0.3, linewidth=0)
        axes.plot(centres, base + scale * inside, color=_colour(site), linewidth=1.6)
        axes.plot(centres, base + scale * ring, color=MUTED, linewidth=1.1)
        axes.plot([first, last], [base, base], color=LINE, linewidth=0.8)
    _rows(axes, sites)
    axes.set_ylim(len(sites) - 0.85, -1.05)
    axes.set_xlim(first, last)
    axes.set_xlabel("HU")
    told = "; ".join(f"{site.name}: pancreas {site.median(QUANTITIES[0]):.0f}" for site in sites)
    return inline(figure, "hu", f"HU in the pancreas and in its ring by site; medians: {told}")


def strips(sites: Sequence[CardSite]) -> Markup:
    """Every case as a dot, a panel a quantity, a row a site, with the site's median and the source's as a line."""
    shown = [quantity for quantity in QUANTITIES if quantity.name in SHOWN]
    columns = 3
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(WIDTH, rows * (0.75 + 0.36 * len(sites))), layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    titles: dict[str, str | list[str]] = {}
    for place, quantity in enumerate(shown):
        axes = figure.add_subplot(rows, columns, place + 1)
        _strip(axes, sites, quantity, titles)
        if place % columns:
            axes.set_yticklabels([])
    return inline(figure, "strips", f"Every case by site: {', '.join(q.label for q in shown)}", titles)


def _strip(axes: Axes, sites: Sequence[CardSite], quantity: Quantity, titles: dict[str, str | list[str]]) -> None:
    every = [value for site in sites for value in site.values(quantity)]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    reach = max(high - low, 2 * quantity.floor)
    if sites[0].values(quantity):
        axes.axvline(sites[0].median(quantity), color=SOURCE, linewidth=1, linestyle=(0, (1, 2)))
    for row, site in enumerate(sites):
        cases = sorted((quantity.value(case), case.name) for case in site.cases)
        finite = [(value, name) for value, name in cases if np.isfinite(value)]
        shifts = swarm([(value - low) / reach for value, _ in finite])
        if finite:
            gid = f"{quantity.name}-cases-{row}"
            axes.plot(
                [value for value, _ in finite], [row + 0.8 * aside for aside in shifts], marker="o", markersize=3.8,
                color=_colour(site), alpha=0.7, markeredgewidth=0, linestyle="", gid=gid,
            )  # fmt: skip
            titles[gid] = [f"{site.name} · {name}: {quantity.text(value)}" for value, name in finite]
            middle = site.median(quantity)
            axes.plot([middle, middle], [row - 0.34, row + 0.34], color=_colour(site), linewidth=2.2)
    _rows(axes, sites)
    axes.set_ylim(len(sites) - 0.5, -0.5)
    axes.set_xlim(low - 0.06 * reach, low + 1.06 * reach)
    axes.set_title(f"{quantity.label}, {quantity.unit}", fontsize=10, color=INK, loc="left")


def _rows(axes: Axes, sites: Sequence[CardSite]) -> None:
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(sites)), [short(site.name, 18) for site in sites], parse_math=False)
    axes.tick_params(length=0, labelsize=9, labelcolor=MUTED)
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
    axes.xaxis.label.set_color(MUTED)
    axes.xaxis.label.set_fontsize(9)


def _colour(site: CardSite) -> str:
    return SOURCE if site.role == "source" else HELD_OUT
