"""Renders ``report.html``, one file without any outside reference, and its picture: same run folder, same bytes."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from datamodules.atomic import atomic_file, write_text
from experiments.report import words
from experiments.report.collect import collect
from experiments.report.figures import strip_plot, training_plots
from experiments.report.model import CaseResult, Results
from experiments.report.overlays import PLANES, overlays
from experiments.report.overview import overview
from experiments.run_folder import RunFolder

_HERE = Path(__file__).parent


def write_report(run_folder: Path) -> Path:
    """Write an evaluated run's report, and beside it ``overview.png``, its one picture.

    Args:
        run_folder: the run's folder, ``<run.root>/<name>/<id>``.

    Returns:
        The page's path, ``evaluation/report.html`` in the run's folder.

    Raises:
        UsageError: the folder is no run, the run has not been evaluated, or a file of it can't be read.
    """
    evaluation = RunFolder(run_folder).evaluation
    results = collect(run_folder)
    page, picture = render(results), overview(results)
    with atomic_file(evaluation / "overview.png", "wb") as file:
        file.write(picture)
    write_text(evaluation / "report.html", page)
    return evaluation / "report.html"


def render(results: Results) -> str:
    """The page as HTML."""
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    shown = overlays(results.sites)
    return _templates().get_template("report.html").render(
        results=results,
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sentences=words.summary(results),
        worst=words.worst_site(results),
        failures=sum(site.failures for site in results.sites),
        cases=[case for site in results.sites for case in site.cases],
        total=sum(site.n for site in results.sites),
        both_empty=any(site.both_empty for site in results.sites),
        prior=any(site.location_prior is not None for site in results.sites),
        strips=[
            strip_plot(results.sites, "dice", "Dice"),
            strip_plot(results.sites, "nsd", f"NSD at {results.tolerance:g} mm"),
        ],
        training=training_plots(results),
        shown=shown,
        anchors={
            (entry.case.site, entry.case.case): f"case-{site}-{number}"
            for site, entries in enumerate(shown.values())
            for number, entry in enumerate(entries)
            if entry.panels
        },
        planes=PLANES,
    )  # fmt: skip


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = words.number
    environment.filters["flat"] = _flat
    environment.filters["sortable"] = _sortable
    environment.filters["key"] = _key
    return environment


def _sortable(value: float) -> str:
    """What a column is sorted by: the full number, nothing where there is none."""
    return f"{value:.6g}" if math.isfinite(value) else ""


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
