"""A ladder as sentences and tables of text, for the console and the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from experiments.comparison.words import Table, between, listed, plus
from experiments.ladder.found import Climb, Ladder
from experiments.pages.words import number
from experiments.statistics import DRAWS, Estimate
from lightning_modules.metrics.protocol import how_measured

HOW = (
    "All factors start from the same scans, at level 0; one factor is altered at a time, on the same patients, and the "
    "others stay at 0. A change is taken case by case from level 0."
)
INTERVALS = f"In brackets 95 % intervals, by {DRAWS:,} bootstrap draws of the cases."
CAUSE = (
    "A factor's cost is what it does to this model alone. Sites differ in several at once, whose costs need not add up."
)

LOW = 0.5
"""Dice at level 0 below which there is little to lose, as where a model of real CTs is given phantoms."""


def findings(found: Ladder) -> list[str]:
    """What the ladder tells: a few sentences on each run, and one on each that is compared with the first."""
    own = [" ".join([_start(found, climb), *_costs(found, climb)]) for climb in found.climbs]
    return [*own, *(_against(found, climb) for climb in found.climbs[1:])]


def heads(found: Ladder) -> list[str]:
    """What has to be known to read the tables."""
    scans = f"{found.scans[0].upper()}{found.scans[1:]}."
    return [f"{scans} {how_measured(found.tolerance, smallest_piece=found.smallest_piece)}", *found.remarks]


def feet(found: Ladder) -> list[str]:
    """How the numbers come about."""
    return [HOW, INTERVALS, CAUSE]


def tables(found: Ladder) -> list[Table]:
    """What each factor costs, every rung, and the runs against the first one."""
    if len(found.climbs) > 1:
        return [_what_it_costs(found), _against_first(found), _rungs(found)]
    return [_without_runs(_what_it_costs(found)), _without_runs(_rungs(found))]


def _without_runs(table: Table) -> Table:
    """The table of a single run, which need not say which."""

    def without(row: tuple[str, ...]) -> tuple[str, ...]:
        return (row[0], *row[2:])

    return Table(table.title, without(table.heads), tuple(map(without, table.rows)))


def meanings(found: Ladder) -> list[tuple[str, str]]:
    """By factor, what its levels are."""
    return [(factor.said, f"0: {factor.zero}; 1: {factor.one}") for factor in found.factors]


def _start(found: Ladder, climb: Climb) -> str:
    dice = climb.curves[found.factors[0].name, "dice"].means[0]
    told = f"{climb.name} has a Dice of {ranged(dice)} at level 0."
    return told if dice.value >= LOW else f"{told} So far off from the start, the ladder tells little of it."


def _costs(found: Ladder, climb: Climb) -> list[str]:
    if len(found.cases) < 2:
        return ["A single case tells nothing of others; climb with --cases 2 or more."]
    order = found.by_cost(climb)
    cost = {factor.name: climb.curves[factor.name, "dice"].cost for factor in order}
    lost = [factor for factor in order if cost[factor.name].high < 0]
    if not lost:
        at = "" if found.top == 1 else f" up to level {found.top:g}"
        return [f"No factor costs it anything that these cases could tell{at}."]
    first, *others = order
    told = [f"At level {found.top:g} {first.said} costs most: {ranged(cost[first.name], signed=True)}."]
    if others and not found.apart(climb, first, others[0]).high < 0:
        told.append(f"These cases do not tell it apart from {others[0].said} ({plus(cost[others[0].name].value)}).")
    if rest := [factor for factor in lost if factor is not first]:
        told.append(f"Costly too: {listed([f'{factor.said} ({plus(cost[factor.name].value)})' for factor in rest])}.")
    if still := [factor.said for factor in order if factor not in lost]:
        told.append(f"Nothing that these cases could tell is lost to {listed(still)}.")
    return told


def _against(found: Ladder, climb: Climb) -> str:
    """Along which factors a run keeps more or less than the first one."""
    first = found.climbs[0].name
    kept = {factor.said: found.against_first(climb, factor.name, "dice") for factor in found.factors}
    more = [f"{name} ({plus(value.value)})" for name, value in kept.items() if value.low > 0]
    less = [f"{name} ({plus(value.value)})" for name, value in kept.items() if value.high < 0]
    parts = [f"{word} of its Dice along {listed(names)}" for word, names in (("more", more), ("less", less)) if names]
    if not parts:
        return f"Along no factor can be told that {climb.name} keeps more or less of its Dice than {first}."
    return f"{climb.name} keeps {' and '.join(parts)} than {first} does."


def _what_it_costs(found: Ladder) -> Table:
    top = f"{found.top:g}"
    heads = (
        "factor",
        "run",
        "Dice at 0",
        f"Dice at {top}",
        "change in Dice",
        "change in NSD",
        "lost from",
        f"failed at {top}",
    )
    rows = []
    for climb in found.climbs:
        for factor in found.by_cost(climb):
            dice, nsd = climb.curves[factor.name, "dice"], climb.curves[factor.name, "nsd"]
            rows.append(
                (
                    factor.said, climb.name, number(dice.means[0].value), number(dice.means[-1].value),
                    ranged(dice.cost, signed=True), ranged(nsd.cost, signed=True),
                    "–" if dice.lost_from is None else f"{dice.lost_from:g}", str(climb.failures(factor.name)),
                )
            )  # fmt: skip
    return Table("What each factor costs", heads, tuple(rows))


def _against_first(found: Ladder) -> Table:
    first = found.climbs[0].name
    heads = (
        "factor",
        "run",
        f"Dice at {found.top:g} from {first}",
        f"keeps of Dice from {first}",
        f"keeps of NSD from {first}",
    )
    rows = []
    for climb in found.climbs[1:]:
        for factor in found.by_cost(found.climbs[0]):
            mine, other = climb.curves[factor.name, "dice"], found.climbs[0].curves[factor.name, "dice"]
            rows.append(
                (
                    factor.said, climb.name, plus(mine.means[-1].value - other.means[-1].value),
                    ranged(found.against_first(climb, factor.name, "dice"), signed=True),
                    ranged(found.against_first(climb, factor.name, "nsd"), signed=True),
                )
            )  # fmt: skip
    return Table(f"Against {first}", heads, tuple(rows))


def _rungs(found: Ladder) -> Table:
    heads = ("factor", "run", "level", "Dice", "change in Dice", "NSD", "change in NSD")
    rows = []
    for factor in found.by_cost(found.climbs[0]):
        for climb in found.climbs:
            dice, nsd = climb.curves[factor.name, "dice"], climb.curves[factor.name, "nsd"]
            for place, level in enumerate(found.levels):
                cells = [
                    text
                    for curve in (dice, nsd)
                    for text in (
                        ranged(curve.means[place]),
                        ranged(curve.changes[place], signed=True) if place else "–",
                    )
                ]
                rows.append((factor.said, climb.name, f"{level:g}", *cells))
    return Table("Every rung", heads, tuple(rows))


def ranged(value: Estimate, signed: bool = False) -> str:
    """A number with its interval, the latter left out where a single case makes none."""
    return between(value, signed=signed) if math.isfinite(value.low) else (plus if signed else number)(value.value)


def names(runs: Sequence[tuple[str, int, str]]) -> list[str]:
    """What runs are called beside one another: by name, with the seed where names are equal, with the id where that is.

    Args:
        runs: name, seed and id of each.
    """
    wanted = [[name, f"{name} seed {seed}", f"{name} {id_}"] for name, seed, id_ in runs]
    for place in range(3):
        found = [words[place] for words in wanted]
        if len(set(found)) == len(found):
            return found
    return [f"{words[2]} ({number})" for number, words in enumerate(wanted, start=1)]
