"""One run's evaluation as it enters a comparison, and the run folder that it is read from."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.errors import UsageError
from experiments.run_folder import RunFolder

METRICS = ("dice", "nsd", "hd95")
DESCRIBED = ("slice_mm", "ring_hu")
"""Further columns: what the data card of the run tells of a case."""
FACTS = ("reference_volume_ml", *DESCRIBED)
"""What a difference between methods may go with."""
CONTENT = "content"
"""Name of a further column: the first digits of the digest of a case's image and label."""
DIGITS = 16


@dataclass(frozen=True)
class CaseScore:
    """A case of a run.

    Attributes:
        site: its site.
        case: its id.
        values: by metric.
        failure: prediction or label alone is empty.
        content: digest of its voxels; empty where it is not known.
        facts: what is known of the scan, by name (:data:`FACTS`).
    """

    site: str
    case: str
    values: Mapping[str, float]
    failure: bool
    content: str
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluated:
    """A run's evaluation.

    Attributes:
        method: the row of the table that it belongs to.
        source: the site that it was trained on.
        seed: its seed.
        fold: the fold of the source that tests.
        roles: of each site, ``source_test`` or ``held_out``.
        scores: of every case.
        validation: best Dice on the source's validation cases; None where it is not known.
        protocol: how was evaluated; what is compared must have it in common.
        where: the file or folder that this comes from.
    """

    method: str
    source: str
    seed: int
    fold: int
    roles: Mapping[str, str]
    scores: tuple[CaseScore, ...]
    validation: float | None
    protocol: Mapping[str, Any]
    where: str


def scores(rows: Iterable[Mapping[str, str]], where: str) -> tuple[CaseScore, ...]:
    """Rows of a per-case table.

    Raises:
        UsageError: one of them can't be read.
    """
    found = []
    for number, row in enumerate(rows, start=2):
        try:
            values = {metric: float(row[metric]) for metric in METRICS}
            failure = _truth(row["empty_prediction"]) != _truth(row["empty_reference"])
            facts = {name: float(row.get(name) or math.nan) for name in FACTS}
            facts = {name: value for name, value in facts.items() if math.isfinite(value)}
            found.append(CaseScore(row["site"], row["case"], values, failure, row.get(CONTENT) or "", facts))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{where}: row {number} of the cases can't be read ({error!r}); evaluate the run again."
            ) from error
        if not all(map(math.isfinite, values.values())):
            raise UsageError(f"{where}: {row['site']}/{row['case']} has a value that is not finite; evaluate it again.")
    return tuple(found)


def rows_of_run(run: RunFolder) -> list[dict[str, str]]:
    """``per_case.csv`` of an evaluated run, each case with the digest of its content where the run knows it.

    Raises:
        UsageError: the run has not been evaluated.
    """
    path = run.evaluation / "per_case.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{run.path}: the run has not been evaluated yet; do it with `pansite evaluate {run.path}`."
        ) from error
    card = _card(run)
    return [row | {CONTENT: _content(run, row)} | _described(card, row) for row in rows]


def summary_of_run(run: RunFolder) -> dict[str, Any]:
    """``summary.json`` of an evaluated run.

    Raises:
        UsageError: the run has not been evaluated, or the file is none.
    """
    path = run.evaluation / "summary.json"
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not all(key in summary for key in ("sites", "inference", "tolerance_mm", "checkpoint")):
            raise ValueError("keys are missing")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{run.path}: the run has not been evaluated yet; do it with `pansite evaluate {run.path}`."
        ) from error
    return summary


def protocol(summary: Mapping[str, Any]) -> dict[str, Any]:
    """How a run was evaluated, as far as what is compared must have it in common.

    Of another tool's predictions nothing is known of how they were made, but that small pieces were left out of them.
    """
    if "predictions_of" in summary:
        return {"tolerance_mm": summary["tolerance_mm"], **summary["inference"]}
    checkpoint = str(summary["checkpoint"].get("name", "")).partition(".")[0]
    inference = {key: value for key, value in summary["inference"].items() if key != "precision"}
    return {"tolerance_mm": summary["tolerance_mm"], "checkpoint": checkpoint, **inference}


def validation(metrics: Path) -> float | None:
    """The best Dice on the source's validation cases in a run's ``metrics.csv``."""
    best = -math.inf
    try:
        with metrics.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if value := row.get("val/dice"):
                    best = max(best, float(value))
    except (OSError, ValueError):
        return None
    return best if math.isfinite(best) else None


def _content(run: RunFolder, row: Mapping[str, str]) -> str:
    try:
        file = run.evaluation / "cases" / row["site"] / f"{row['case']}.json"
        return str(json.loads(file.read_text(encoding="utf-8"))["digest"])[:DIGITS]
    except (OSError, ValueError, KeyError):
        return ""


def _card(run: RunFolder) -> Mapping[str, Any]:
    try:
        sites: Mapping[str, Any] = json.loads(run.data_card.read_text(encoding="utf-8"))["sites"]
        return sites
    except (OSError, ValueError, KeyError):
        return {}


def _described(card: Mapping[str, Any], row: Mapping[str, str]) -> dict[str, str]:
    told = card.get(row["site"], {}).get("by_case", {}).get(row["case"], {}).get("quantities", {})
    return {name: str(told[name]) for name in DESCRIBED if told.get(name) is not None}


def _truth(value: str) -> bool:
    return value.strip().lower() in {"true", "1"}
