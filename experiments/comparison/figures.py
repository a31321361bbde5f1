"""The page's plots: every case of a method against the reference, and the difference by site and by scan."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.comparison.compute import Against, Comparison
from experiments.comparison.measured import FACTS
from experiments.comparison.words import between, plus
from experiments.pages.columns import column
from experiments.pages.plots import WIDTH, calm, short
from experiments.pages.scatter import Dot, looks, scatter
from experiments.pages.svg import HELD_OUT, INK, MUTED, SOURCE, inline
from lightning_modules.metrics.uncertainty import rank_correlation


def paired(found: Comparison, against: Against, number: int) -> Markup:
    """Dice of each case, the reference's below and the method's beside; above the diagonal the method is better."""
    dots = [
        Dot(site, f"{site} · {case}: {x:.3f} → {y:.3f} ({plus(y - x)})", x, y) for site, case, x, y in against.cases
    ]
    better = sum(dot.y > dot.x for dot in dots)
    labels = (f"Dice of {short(found.reference)}", f"Dice of {short(against.method)}")
    text = f"{against.method} is better than {found.reference} on {better} of {len(dots)} cases"
    return scatter(dots, looks(found.sites), f"paired-{number}", labels, text, equal=True, legend=True)


def against_facts(found: Comparison, against: Against, number: int) -> list[tuple[str, str, Markup]]:
    """The difference in Dice of each case against each of what is known of the scans and varies.

    Returns:
        Heading, rank correlation and plot.
    """
    plots = []
    for name in FACTS:
        told = column(name)
        dots = [
            Dot(site, f"{site} · {case}: {plus(y - x)}\n{told.label} {x_:.{told.digits}f} {told.unit}", x_, y - x)
            for site, case, x, y in against.cases
            if (x_ := found.facts.get((site, case), {}).get(name)) is not None
        ]
        if len({dot.x for dot in dots}) < 2:
            continue
        rho = rank_correlation([dot.x for dot in dots], [dot.y for dot in dots])
        note = "" if rho is None else f"ρ = {plus(rho, 2)}"
        labels = (f"{told.label}, {told.unit}", "difference in Dice")
        text = (
            f"Difference in Dice of {against.method} from {found.reference} by {told.label}; Spearman’s {note or 'ρ –'}"
        )
        plots.append((told.label, note, scatter(dots, looks(found.sites), f"{name}-{number}", labels, text, zero=True)))
    return plots


def by_site(found: Comparison, against: Sequence[Against]) -> Markup:
    """Difference in Dice from the reference: over all held-out sites, then site by site, each with its interval."""
    lines = 1 + len(found.sites)
    figure = Figure(figsize=(WIDTH + 1.6, 0.7 + 0.17 * (lines + 1) * len(against)), layout="constrained")
    axes = figure.add_subplot()
    titles, ticks = {}, []
    for block, one in enumerate(against):
        top = block * (lines + 1)
        entries = [("held-out mean", one.tests["dice"].difference), *((site, one.sites[site]) for site in found.sites)]
        for row, (name, value) in enumerate(entries):
            gid = f"difference-{block}-{row}"
            colour = SOURCE if row == 0 else HELD_OUT
            axes.plot([value.low, value.high], [top + row] * 2, color=colour, linewidth=2.4 if row == 0 else 1.2)
            axes.plot(
                value.value, top + row, marker="D" if row == 0 else "o", markersize=5 if row == 0 else 4, color=colour,
                markeredgewidth=0, gid=gid,
            )  # fmt: skip
            titles[gid] = f"{one.method}, {name}: {between(value, signed=True)}"
            ticks.append((top + row, short(one.method) if row == 0 else name))
    axes.axvline(0, color=MUTED, linewidth=0.8)
    calm(axes, grid="x")
    axes.set_yticks([place for place, _ in ticks], [name for _, name in ticks], parse_math=False)
    for (place, _), label in zip(ticks, axes.get_yticklabels(), strict=True):
        first = place % (lines + 1) == 0
        label.set_color(INK if first else MUTED)
        label.set_fontsize(9 if first else 8)
    axes.set_ylim((lines + 1) * len(against) - 1.4, -0.8)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plus(value, 2)))
    axes.set_xlabel(f"difference in Dice from {found.reference}", parse_math=False)
    text = "; ".join(f"{one.method} {plus(one.tests['dice'].difference.value)}" for one in against)
    return inline(figure, "by-site", f"Difference in Dice from {found.reference}: {text}", titles)
