"""The page of a ladder, one file without any outside reference, in the hand of a run's report."""

from __future__ import annotations

from pathlib import Path

from experiments.ladder import words
from experiments.ladder.figures import costs, curves, key
from experiments.ladder.found import Ladder
from experiments.ladder.pictures import Picture, picture, place_of
from experiments.ladder.plan import Factor, Plan
from experiments.pages import render as pages


def render(found: Ladder, command: str) -> str:
    """The page as HTML; the same bytes for the same ladder.

    Args:
        found: the ladder.
        command: that makes it.
    """
    tables = words.tables(found)
    pictures = _pictures(found)
    numbered = [(f"table-{number}", table) for number, table in enumerate(tables, start=1)]
    return pages.render(
        Path(__file__).with_name("ladder.html"),
        style=Path(__file__).with_name("ladder.css"),
        contents=[
            ("costs", "Costs"), ("dice", "Dice by factor"), ("nsd", "NSD by factor"),
            *([("looks", "What it looks like")] if pictures else []),
            *((id_, table.title) for id_, table in numbered[1:]), ("how", "How"),
        ],
        found=found,
        command=command,
        findings=words.findings(found),
        heads=words.heads(found),
        feet=words.feet(found),
        meanings=words.meanings(found),
        costs=costs(found),
        dice=curves(found, "dice"),
        nsd=curves(found, "nsd"),
        key=key(found),
        pictures=pictures,
        cost_table=tables[0],
        tables=numbered[1:],
        words=1 if len(found.climbs) == 1 else 2,
    )  # fmt: skip


def _pictures(found: Ladder) -> list[tuple[Factor, list[tuple[float, Picture]]]]:
    """By factor and level, what the first run saw of the first case and found in it; what was not kept is left out."""
    rungs = Plan(found.factors, found.levels)
    folder = found.climbs[0].folder
    rows = []
    for factor in found.by_cost(found.climbs[0]):
        kept = [(level, picture(place_of(folder, rungs.rung(factor.name, level)))) for level in found.levels]
        rows.append((factor, [(level, each) for level, each in kept if each is not None]))
    return [row for row in rows if row[1]]
