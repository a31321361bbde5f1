"""Renders ``report.html``, one file without any outside reference, and its picture: same run folder, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.atomic import atomic_file, write_text
from experiments.pages import render as pages
from experiments.pages.columns import column
from experiments.report import words
from experiments.report.card import card_columns, card_rows
from experiments.report.collect import MEASURES, STATISTICS, collect
from experiments.report.figures import strip_plot, training_plots
from experiments.report.model import CaseResult, Results
from experiments.report.overlays import overlays
from experiments.report.overview import overview
from experiments.report.panel import batches_shown
from experiments.report.reasons import reasons
from experiments.report.viewer import viewed
from experiments.run_folder import RunFolder
from experiments.wandb_pieces import sync_command
from lightning_modules.metrics.protocol import how_detailed, how_measured

LARGEST = 9_800_000
"""Bytes of a page: what is left beside words and plots goes to the pictures."""
PICTURES = 0.4
"""Of that, for the pictures of worst and median cases; the rest is the viewer's."""
MOST_ROWS = 2000
"""Of the table of cases; where there are more, the worst."""


def write_report(run_folder: Path, unsent: Sequence[Path] = ()) -> Path:
    """Write an evaluated run's report, and beside it ``overview.png``, its one picture.

    Args:
        run_folder: the run's folder, ``<run.root>/<name>/<id>``.
        unsent: pieces of the run that W&B has not seen, in the order in which they are to be sent.

    Returns:
        The page's path, ``evaluation/report.html`` in the run's folder.

    Raises:
        UsageError: the folder is no run, the run has not been evaluated, or a file of it can't be read.
    """
    evaluation = RunFolder(run_folder).evaluation
    results = collect(run_folder)
    page, picture = render(results, unsent), overview(results)
    with atomic_file(evaluation / "overview.png", "wb") as file:
        file.write(picture)
    write_text(evaluation / "report.html", page)
    return evaluation / "report.html"


def render(results: Results, unsent: Sequence[Path] = ()) -> str:
    """The page as HTML, below 10 MB however many cases there are."""
    context = _told(results) | {"unsent": unsent, "sync": sync_command(unsent)}
    bare = len(_page(results, context, [], {}).encode())
    # Base64 makes four letters of three bytes.
    room = max(0, LARGEST - bare) * 3 // 4
    shown = overlays(results.sites, int(room * PICTURES))
    return _page(results, context, viewed(results.sites, int(room * (1 - PICTURES))), shown)


def _page(results: Results, context: Mapping[str, Any], entries: Sequence[Any], shown: Mapping[str, Any]) -> str:
    template = Path(__file__).with_name("report.html")
    return pages.render(
        template,
        style=template.with_name("report.css"),
        script=template.with_name("report.js"),
        filters={"flat": _flat, "key": _key},
        results=results,
        viewed=entries,
        openable={_key(entry.case) for entry in entries},
        shown=shown,
        anchors={
            _key(entry.case): f"case-{site}-{number}"
            for site, cases in enumerate(shown.values())
            for number, entry in enumerate(cases)
            if entry.panels
        },
        **context,
    )


def _told(results: Results) -> dict[str, Any]:
    """All that is no picture."""
    cases = [case for site in results.sites for case in site.cases]
    kept = {id(case) for case in sorted(cases, key=lambda case: case.dice)[:MOST_ROWS]}
    further = [name for name in results.measures if name not in MEASURES]
    statistics = dict.fromkeys(name for site in results.sites for name in site.statistics if name not in STATISTICS)
    training, batches, why = training_plots(results), batches_shown(results.panels), reasons(results)
    sections = {
        "sites": "Sites", "pictures": "Worst cases", "reasons": "What goes with it" if why else "",
        "training": "Training" if training or batches else "", "cases": "Cases", "data": "Data",
        "configuration": "Configuration", "environment": "Environment",
    }  # fmt: skip
    return {
        "contents": [(name, text) for name, text in sections.items() if text],
        "sentences": words.summary(results),
        "worst": words.worst_site(results),
        "failures": sum(site.failures for site in results.sites),
        "cases": [case for case in cases if id(case) in kept],
        "left": len(cases) - len(kept),
        "total": sum(site.n for site in results.sites),
        "both_empty": any(site.both_empty for site in results.sites),
        "prior": any(site.location_prior is not None for site in results.sites),
        "doubt": any(site.doubt is not None for site in results.sites),
        "measured": how_measured(results.tolerance, results.voxel_edges, results.smallest_piece),
        "detailed": how_detailed(),
        "details": [column(name) for name in statistics],
        "measures": [column(name) for name in (*MEASURES, *further)],
        "further": further,
        "digests": any(case.digest for case in cases),
        "strips": [
            strip_plot(results.sites, "dice", "Dice"),
            strip_plot(results.sites, "nsd", f"NSD at {results.tolerance:g} mm"),
        ],
        "reasons": why,
        "training": training,
        "batches": batches,
        "card": card_rows(results.card),
        "card_columns": card_columns(results.card),
    }


def _key(case: CaseResult) -> tuple[str, str]:
    return case.site, case.case


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of dotted name and value."""
    rows: list[tuple[str, str]] = []
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            rows += _flat(inner, f"{prefix}{name}.")
        elif isinstance(inner, list):
            rows.append((f"{prefix}{name}", ", ".join(map(str, inner)) or "none"))
        else:
            rows.append((f"{prefix}{name}", "–" if inner is None else str(inner)))
    return rows
