"""A comparison as tables of text: for the console, for Markdown, and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.comparison.compute import Against, Comparison, Row
from experiments.pages.words import number
from experiments.statistics import DRAWS, Estimate
from lightning_modules.metrics.protocol import how_measured

LOOKS = {
    "dev": "Sites for choosing: methods and settings may be chosen by this table, and it proves nothing.",
    "test": "Sites for the final look: nothing may be chosen by this table.",
}
HOW = (
    f"In brackets 95 % intervals, by {DRAWS:,} bootstrap draws of seeds, held-out sites and cases within each; of "
    "a single site, of the source's test cases and where it says “these sites”, of seeds and cases alone."
)
TESTED = (
    "Differences are taken case by case on the held-out sites, averaged first over the seeds that both were trained "
    "with (all of each, where they share none); p by Wilcoxon's signed-rank test, adjusted by Holm for all methods of "
    "the table; r is the matched-pairs rank-biserial correlation, from −1 (all differences negative) to 1 (all "
    "positive)."
)


@dataclass(frozen=True)
class Table:
    """Text in rows; the first column is a name, the others are numbers."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def between(found: Estimate | None, digits: int = 3, signed: bool = False) -> str:
    """``0.779 [0.741, 0.812]``; a dash where there is none."""
    if found is None or not math.isfinite(found.value):
        return "–"
    values = [
        plus(value, digits) if signed else number(value, digits) for value in (found.value, found.low, found.high)
    ]
    return f"{values[0]} [{values[1]}, {values[2]}]"


def plus(value: float, digits: int = 3) -> str:
    """With its sign, of whatever is not 0 as it is shown."""
    text = number(value, digits)
    if float(text.replace("−", "-")) == 0:
        return text.removeprefix("−")
    return text if value < 0 else f"+{text}"


def probability(p: float) -> str:
    """A p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def tables(found: Comparison) -> list[Table]:
    """All tables, in their order."""
    return [_methods(found), *([_differences(found), _by_site(found)] if found.against else []), _matrix(found)]


def _methods(found: Comparison) -> Table:
    final = any(row.source_test is not None for row in found.rows)
    heads = ("method", "seeds", "Dice", f"NSD {found.tolerance:g} mm", "HD95 mm", "failures", "worst site")
    ends = ("source test", "gap") if final else ()
    return Table(
        f"Held-out mean over {listed(found.sites)}",
        (*heads, "source validation", *ends),
        tuple(_method(row, final) for row in found.rows),
    )


def _method(row: Row, final: bool) -> tuple[str, ...]:
    share, low, high = (number(100 * value, 1) for value in _numbers(row.failures))
    return (
        row.method,
        str(len(row.seeds)),
        between(row.macro["dice"]),
        between(row.macro["nsd"]),
        between(row.macro["hd95"], 1),
        f"{row.failed} of {row.tested}" + (f" ({share} %) [{low}, {high} %]" if row.failed else ""),
        f"{row.worst} {between(row.worst_dice)}",
        number(row.validation),
        *((between(row.source_test), between(row.gap, signed=True)) if final else ()),
    )


def _differences(found: Comparison) -> Table:
    final = any(against.source_test is not None for against in found.against)
    heads = ("method", "Dice", "these sites", "p", "p Holm", "r", "NSD", "p Holm", "HD95 mm", "p Holm")
    return Table(
        f"Difference from {found.reference}",
        (*heads, *(("source test Dice",) if final else ())),
        tuple(_difference(against, final) for against in found.against),
    )


def _difference(against: Against, final: bool) -> tuple[str, ...]:
    dice, nsd, hd95 = (against.tests[metric] for metric in ("dice", "nsd", "hd95"))
    return (
        against.method,
        between(dice.difference, signed=True),
        between(dice.fixed, signed=True),
        probability(dice.p),
        probability(dice.p_holm),
        plus(dice.rank_biserial, 2),
        between(nsd.difference, signed=True),
        probability(nsd.p_holm),
        between(hd95.difference, 1, signed=True),
        probability(hd95.p_holm),
        *((between(against.source_test, signed=True),) if final else ()),
    )


def _by_site(found: Comparison) -> Table:
    rows = tuple(
        (against.method, *(between(against.sites[site], signed=True) for site in found.sites))
        for against in found.against
    )
    return Table(f"Difference in Dice from {found.reference} by site", ("method", *found.sites), rows)


def _matrix(found: Comparison) -> Table:
    """Trained on the row, tested on the column."""
    columns = tuple(dict.fromkeys(site for row in found.rows for _, site in row.matrix))
    ordered = (*(name for name in found.sources if name in columns), *(n for n in columns if n not in found.sources))
    rows = tuple(
        (f"{row.method}, {source}", *(between(row.matrix.get((source, site))) for site in ordered))
        for row in found.rows
        for source in found.sources
    )
    return Table("Dice by site: trained on the row, tested on the column", ("method, source", *ordered), rows)


def heads(found: Comparison) -> list[str]:
    """The sentences that stand above the tables."""
    about = [" ".join(found.about.split())] if found.about else []
    look = [f"Look: {found.look}. {LOOKS[found.look]}"] if found.look else []
    return [*about, *look, how_measured(found.tolerance, smallest_piece=found.smallest_piece)]


def feet(found: Comparison) -> list[str]:
    """The sentences that stand below the tables."""
    return [HOW, *([TESTED] if found.against else []), *found.notes]


def findings(found: Comparison) -> list[str]:
    """What the table says, most important first."""
    ranked = sorted(found.rows, key=lambda row: -row.macro["dice"].value)
    best = ranked[0]
    sentences = [
        f"On {listed(found.sites)}, averaged site by site, {best.method} does best with a mean Dice of "
        f"{number(best.macro['dice'].value)}."
    ]
    apart = [against for against in found.against if against.tests["dice"].p_holm < 0.05]
    better = [a for a in apart if min(a.tests["dice"].difference.value, a.tests["dice"].rank_biserial) > 0]
    worse = [a for a in apart if max(a.tests["dice"].difference.value, a.tests["dice"].rank_biserial) < 0]
    split = [a for a in apart if a not in better and a not in worse]
    for group, word in ((better, "better than"), (worse, "worse than"), (split, "neither better nor worse than")):
        if group:
            names = [f"{a.method} ({plus(a.tests['dice'].difference.value)})" for a in group]
            verb = "is" if len(group) == 1 else "are"
            sentences.append(f"Over the cases, {listed(names)} {verb} {word} {found.reference} (Holm, p < 0.05).")
    if split:
        sentences.append("There most cases go one way and the mean the other: look at the cases.")
    if found.against and not apart:
        sentences.append(f"Over the cases, no method can be told from {found.reference} (Holm, p < 0.05).")
    return sentences


def markdown(found: Comparison, level: int = 1) -> str:
    """The comparison as Markdown."""
    lines = [f"{'#' * level} {found.title}", ""]
    for sentence in heads(found):
        lines += [sentence, ""]
    for table in tables(found):
        lines += [f"**{_escaped(table.title)}**", ""]
        lines += [_line(table.heads), "|".join(["", "---", *["---:"] * (len(table.heads) - 1), ""])]
        lines += [*map(_line, table.rows), ""]
    for sentence in feet(found):
        lines += [sentence, ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _numbers(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high
