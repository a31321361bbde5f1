"""A ladder on the console and as files: a CSV of all cells, a JSON of all numbers, one self-contained page."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from datamodules.atomic import atomic_file, finite, write_json, write_text
from experiments.ladder import words
from experiments.ladder.found import METRICS, Climb, Ladder
from experiments.statistics import Estimate

_MEASURED = (
    "dice", "nsd", "hd95", "assd", "precision", "recall", "volume_ml", "reference_volume_ml", "empty_prediction",
    "empty_reference",
)  # fmt: skip
_COLUMNS = ("run", "factor", "level", "case", *_MEASURED)


def show(found: Ladder) -> None:
    """Print what the ladder tells; every rung stands in the files."""
    # A number that is cut off is worse than a line that wraps.
    console = Console(highlight=False, markup=False, soft_wrap=True, width=1000)
    for sentence in words.heads(found):
        console.print(sentence)
    for table in words.tables(found)[:-1]:
        shown = RichTable(title=table.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for head in table.heads:
            shown.add_column(head, justify="left" if head in ("factor", "run") else "right", no_wrap=True)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for name, levels in words.meanings(found):
        console.print(f"{name}: {levels}")
    for sentence in words.findings(found):
        console.print(sentence)


def write(found: Ladder, folder: Path, command: str) -> list[Path]:
    """Write ``ladder.csv``, ``ladder.json`` and ``ladder.html``.

    Args:
        found: the ladder.
        folder: where to.
        command: that makes it.

    Returns:
        their paths.
    """
    from experiments.ladder.page import render

    paths = [folder / f"ladder.{end}" for end in ("csv", "json", "html")]
    with atomic_file(paths[0]) as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_cells(found))
    write_json(paths[1], described(found))
    write_text(paths[2], render(found, command))
    return paths


def described(found: Ladder) -> dict[str, Any]:
    """A ladder as plain containers."""
    return {
        "scans": found.scans,
        "cases": list(found.cases),
        "levels": list(found.levels),
        "tolerance_mm": found.tolerance,
        "factors": {factor.name: {"0": factor.zero, "1": factor.one} for factor in found.factors},
        "remarks": list(found.remarks),
        "findings": words.findings(found),
        "runs": [_run(found, climb) for climb in found.climbs],
    }


def _run(found: Ladder, climb: Climb) -> dict[str, Any]:
    order = found.by_cost(climb)
    return {
        "name": climb.name,
        "run": climb.where,
        "checkpoint": dict(climb.checkpoint),
        "by_cost": [factor.name for factor in order],
        "factors": {
            factor.name: {
                "failures": climb.failures(factor.name),
                "lost_from": climb.curves[factor.name, "dice"].lost_from,
                **{metric: _curve(found, climb, factor.name, metric) for metric in METRICS},
            }
            for factor in order
        },
    }


def _curve(found: Ladder, climb: Climb, factor: str, metric: str) -> list[dict[str, Any]]:
    curve = climb.curves[factor, metric]
    return [
        {"level": level, "mean": _plain(mean), "change": _plain(change)}
        for level, mean, change in zip(found.levels, curve.means, curve.changes, strict=True)
    ]


def _plain(value: Estimate) -> list[float | None]:
    """Value, low, high."""
    return [finite(number) for number in asdict(value).values()]


def _cells(found: Ladder) -> Iterator[Mapping[str, Any]]:
    """A cell a line; level 0, which all factors share, once for each of them."""
    for climb in found.climbs:
        for (factor, case), cells in climb.cells.items():
            for level, metrics in zip(found.levels, cells, strict=True):
                own = {"run": climb.name, "factor": factor, "level": f"{level:g}", "case": case}
                yield own | {name: getattr(metrics, name) for name in _MEASURED}
