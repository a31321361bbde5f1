"""A comparison on the console and as files: two CSVs, Markdown and one self-contained page."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from datamodules.atomic import atomic_file, write_text
from experiments.comparison import words
from experiments.comparison.compute import Comparison
from experiments.statistics import Estimate

_ROWS = ("method", "source", "site", "quantity", "value", "low", "high", "seeds")
_DIFFERENCES = (
    "method", "reference", "site", "metric", "difference", "low", "high", "low_these_sites", "high_these_sites", "p",
    "p_holm", "rank_biserial", "cases",
)  # fmt: skip


def show(found: Comparison) -> None:
    """Print every table."""
    # A number that is cut off is worse than a line that wraps.
    console = Console(highlight=False, markup=False, soft_wrap=True, width=1000)
    console.print(found.title)
    for sentence in words.heads(found):
        console.print(sentence)
    for table in words.tables(found):
        shown = RichTable(title=table.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for place, head in enumerate(table.heads):
            shown.add_column(head, justify="right" if place else "left", no_wrap=True)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for sentence in [*words.feet(found), *words.findings(found)]:
        console.print(sentence)


def write(found: Comparison, folder: Path, name: str) -> list[Path]:
    """Write ``<name>.csv``, ``<name>_differences.csv``, ``<name>.md`` and ``<name>.html``.

    Returns:
        their paths.
    """
    from experiments.comparison.page import render

    paths = [folder / f"{name}{end}" for end in (".csv", "_differences.csv", ".md", ".html")]
    _write_csv(paths[0], _ROWS, _rows(found))
    _write_csv(paths[1], _DIFFERENCES, _differences(found))
    write_text(paths[2], words.markdown(found))
    write_text(paths[3], render(found))
    return paths


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterator[Mapping[str, Any]]) -> None:
    with atomic_file(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def _rows(found: Comparison) -> Iterator[Mapping[str, Any]]:
    """A number a line."""
    for row in found.rows:
        quantities: list[tuple[str, str, str, Estimate | None]] = [
            *(("", "", f"held_out_{metric}", value) for metric, value in row.macro.items()),
            ("", "", "held_out_failure_share", row.failures),
            ("", row.worst, "worst_site_dice", row.worst_dice),
            ("", "", "source_test_dice", row.source_test),
            ("", "", "gap_dice", row.gap),
            *((source, site, "dice", value) for (source, site), value in row.matrix.items()),
        ]
        seeds = " ".join(map(str, row.seeds))
        for source, site, quantity, value in quantities:
            if value is not None:
                yield {"method": row.method, "source": source, "site": site, "quantity": quantity, "seeds": seeds} | {
                    "value": value.value, "low": value.low, "high": value.high,
                }  # fmt: skip
        alone = {"method": row.method, "seeds": seeds}
        yield alone | {"quantity": "failures", "value": row.failed}
        if row.validation is not None:
            yield alone | {"quantity": "source_validation_dice", "value": row.validation}


def _differences(found: Comparison) -> Iterator[Mapping[str, Any]]:
    for against in found.against:
        own = {"method": against.method, "reference": found.reference}
        for metric, test in against.tests.items():
            drawn, fixed = test.difference, test.fixed
            yield own | {
                "metric": metric, "difference": drawn.value, "low": drawn.low, "high": drawn.high,
                "low_these_sites": fixed.low, "high_these_sites": fixed.high, "p": test.p, "p_holm": test.p_holm,
                "rank_biserial": test.rank_biserial, "cases": len(against.cases),
            }  # fmt: skip
        for site, value in against.sites.items():
            cases = sum(name == site for name, *_ in against.cases)
            yield own | {"site": site, "metric": "dice", "difference": value.value, "cases": cases} | {
                "low_these_sites": value.low, "high_these_sites": value.high,
            }  # fmt: skip
        if (source := against.source_test) is not None:
            yield own | {"site": "source test", "metric": "dice", "difference": source.value} | {
                "low_these_sites": source.low, "high_these_sites": source.high,
            }  # fmt: skip
