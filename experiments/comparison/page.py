"""Renders a comparison as one page without any outside reference, in the hand of a run's report."""

from __future__ import annotations

from pathlib import Path

from experiments.comparison import words
from experiments.comparison.compute import Comparison
from experiments.comparison.figures import against_facts, by_site, paired
from experiments.pages import render as pages


def render(found: Comparison) -> str:
    """The page as HTML; the same bytes for the same comparison."""
    tables = words.tables(found)
    contents = [(f"table-{number}", table.title) for number, table in enumerate(tables, start=1)]
    return pages.render(
        Path(__file__).with_name("comparison.html"),
        contents=[*contents, *([("cases", "Case by case")] if found.against else []), ("how", "How")],
        found=found,
        heads=words.heads(found),
        feet=words.feet(found),
        findings=words.findings(found),
        tables=tables,
        sites=by_site(found, found.against) if found.against else "",
        scatters=[
            (one.method, paired(found, one, number), against_facts(found, one, number))
            for number, one in enumerate(found.against)
        ],
    )
