"""From the rows of all cases to ``per_case.csv``, ``summary.json`` and ``excluded.json``."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from callbacks.rows import Evaluation, read_row
from datamodules.atomic import atomic_file, write_json
from datamodules.errors import UsageError
from datamodules.native import native_grid
from lightning_modules.metrics import CaseMetrics
from lightning_modules.metrics.protocol import EMPTY_MASKS, UNMEASURED
from lightning_modules.metrics.record import COLUMNS, DETAILS
from lightning_modules.metrics.uncertainty import rank_correlation

METRICS = ("dice", "nsd", "hd95", "assd", "precision", "recall")

Rows = dict[str, dict[str, CaseMetrics]]


def collect(evaluation: Evaluation) -> dict[str, Any]:
    """Write the table and the summary of all cases.

    Args:
        evaluation: what was evaluated.

    Returns:
        What ``summary.json`` holds.

    Raises:
        UsageError: a case has no row: a mean over the others would not be the site's.
    """
    rows = _read(evaluation)
    sites = {site: _site(evaluation, site, list(rows[site].values())) for site in evaluation.roles}
    summary = {
        "checkpoint": dict(evaluation.checkpoint),
        "inference": dict(evaluation.inference),
        "tolerance_mm": evaluation.tolerance,
        "grid": "native",
        "voxel_edges_mm": _voxel_edges(evaluation),
        "training_spacing_mm": next((list(record.spacing) for record in evaluation.records), None),
        "empty_masks": EMPTY_MASKS,
        "unmeasured": UNMEASURED,
        "sites": sites,
        **_macro_and_gap(evaluation, sites),
        "uncertainty_and_error": _uncertainty_and_error(
            [row for site, cases in rows.items() if evaluation.roles[site] == "held_out" for row in cases.values()]
        ),
        "location_prior": dict(evaluation.location_prior),
        **evaluation.remarks,
    }
    _write_table(evaluation, rows)
    write_json(evaluation.folder / "excluded.json", {site: dict(cases) for site, cases in evaluation.excluded.items()})
    write_json(evaluation.folder / "summary.json", summary)
    return summary


def _read(evaluation: Evaluation) -> Rows:
    rows: Rows = {site: {} for site in evaluation.roles}
    missing = []
    for record in sorted(evaluation.records, key=lambda record: record.case):
        metrics = read_row(evaluation, record)
        if metrics is None:
            missing.append(f"{record.site}/{record.case}")
        else:
            rows[record.site][record.case] = metrics
    if missing:
        raise UsageError(
            f"{evaluation.folder}: {len(missing)} of {len(evaluation.records)} cases have not been evaluated "
            f"({', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}); give the same command again."
        )
    return rows


def _write_table(evaluation: Evaluation, rows: Rows) -> None:
    with atomic_file(evaluation.folder / "per_case.csv") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for site, cases in rows.items():
            for case, metrics in cases.items():
                values = {k: str(v).lower() if isinstance(v, bool) else v for k, v in asdict(metrics).items()}
                writer.writerow({"site": site, "case": case, **values})  # None becomes an empty cell


def _site(evaluation: Evaluation, site: str, rows: Sequence[CaseMetrics]) -> dict[str, Any]:
    return {
        "role": evaluation.roles[site],
        "n": len(rows),
        **{metric: _statistics(_known(rows, metric)) for metric in (*METRICS, *DETAILS)},
        "uncertainty_and_error": _uncertainty_and_error(rows),
        "failures": sum(row.failure for row in rows),
        "both_empty": sum(row.both_empty for row in rows),
        "excluded": len(evaluation.excluded.get(site, {})),
    }


def _known(rows: Sequence[CaseMetrics], metric: str) -> list[float]:
    """A metric of those cases that have it."""
    return [value for row in rows if (value := getattr(row, metric)) is not None]


def _uncertainty_and_error(rows: Sequence[CaseMetrics]) -> dict[str, float | int | None]:
    """Spearman's ρ of uncertainty and 1 − Dice, and over how many cases: whether the model knows where it errs."""
    known = [row for row in rows if row.uncertainty is not None]
    rho = rank_correlation(_known(known, "uncertainty"), [1 - row.dice for row in known])
    return {"spearman": rho, "n": len(known)}


def _voxel_edges(evaluation: Evaluation) -> list[float] | None:
    """The smallest and the largest edge of a native voxel among all cases, mm."""
    edges = [float(edge) for record in evaluation.records for edge in native_grid(record).spacing]
    return [round(min(edges), 4), round(max(edges), 4)] if edges else None


def _statistics(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, sample sd and median; None where there are too few values for one."""
    return {
        "mean": statistics.fmean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "median": statistics.median(values) if values else None,
    }


def _macro_and_gap(evaluation: Evaluation, sites: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean over the held-out sites of their means, and by how much the source's test cases differ from it."""

    def means(role: str, metric: str) -> list[float]:
        of_role = (site[metric]["mean"] for site in sites.values() if site["role"] == role)
        return [mean for mean in of_role if mean is not None]

    macro, gap = {}, {}
    for metric in (*METRICS, *DETAILS):
        if held_out := means("held_out", metric):
            macro[metric] = statistics.fmean(held_out)
            if source := means("source_test", metric):
                gap[metric] = source[0] - macro[metric]
    return {"held_out_macro": macro, "gap": gap}
