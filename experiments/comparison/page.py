"""Renders a comparison as one page without any outside reference, in the hand of a run's report."""

from __future__ import annotations

from pathlib import Path

from experiments.comparison import words
from experiments.comparison.compute import Comparison
from experiments.comparison.figures import against_facts, by_site, paired
from experiments.pages import render as pages

SHORT = ("Held-out mean", "Differences", "By site", "Trained and tested")
"""What the tables are called where there is little room, if there is a reference."""


def render(found: Comparison) -> str:
    """The page as HTML; the same bytes for the same comparison."""
    tables = words.tables(found)
    short = SHORT if found.against else (SHORT[0], SHORT[-1])
    contents = [(f"table-{number}", word) for number, (word, _) in enumerate(zip(short, tables, strict=True), 1)]
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
