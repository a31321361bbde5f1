"""Reads an evaluated run's folder into ``Results``."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from callbacks.inexact import read_inexact, sentence
from callbacks.panel_files import panels
from datamodules.errors import UsageError
from datamodules.json_files import read_json
from experiments.report.model import CaseResult, Curve, Results, SiteResult, Statistic
from experiments.run_folder import RunFolder

STATISTICS = ("dice", "nsd", "hd95", "assd")
MEASURES = (*STATISTICS, "precision", "recall", "volume_ml", "reference_volume_ml")
"""What every evaluation has; others come as they are."""
_NO_MEASURES = ("site", "case", "empty_prediction", "empty_reference")


def collect(folder: Path) -> Results:
    """Read an evaluated run.

    Args:
        folder: the run's folder, ``<run.root>/<name>/<id>``.

    Raises:
        UsageError: ``folder`` is no run, the run has not been evaluated, or a file of it can't be read.
    """
    run = RunFolder.existing(folder)
    if not (run.evaluation / "summary.json").is_file():
        raise UsageError(f"{folder}: the run has not been evaluated yet; do it with `pansite evaluate {folder}`.")
    text = run.config.read_text(encoding="utf-8")
    config = _config(run.config, text)
    summary, cases = _json(run.evaluation / "summary.json"), _cases(run.evaluation)
    try:
        return Results(
            name=str(config.get("name", folder.resolve().parent.name)),
            id=folder.resolve().name,
            config=config,
            config_text=text,
            overrides=_lines(folder / "overrides.txt"),
            environment=_json(folder / "environment.json", optional=True),
            split=_json(run.split, optional=True),
            sites=_sites(summary, cases, config),
            macro=summary["held_out_macro"] or {},
            gap=summary["gap"] or {},
            tolerance=float(summary["tolerance_mm"]),
            checkpoint=summary["checkpoint"],
            curves=read_curves(run.metrics),
            panels=tuple(panels(run.panels).values()),
            excluded=_json(run.evaluation / "excluded.json", optional=True),
            outside=str((summary.get("predictions_of") or {}).get("folder", "")),
            inexact=sentence(read_inexact(run.inexact) or summary["checkpoint"].get("inexact", [])),
            looks={site: int(looks) for site, looks in summary.get("looks_before", {}).items()},
            leaks=tuple(sorted({*run.read_leaks(), *summary.get("overlap", {}).get("allowed", [])})),
            voxel_edges=_edges(summary.get("voxel_edges_mm")),
            smallest_piece=float(summary.get("inference", {}).get("smallest_piece", 0)),
            doubt=_doubt(summary),
            card=_json(run.data_card, optional=True).get("sites", {}),
            hashes=_hashes(run, cases),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{run.evaluation / 'summary.json'}: not a summary that `pansite evaluate` wrote ({error!r}); "
            f"evaluate the run again."
        ) from error


def read_curves(path: Path) -> dict[str, Curve]:
    """The columns of ``metrics.csv`` but ``step``; where a resumed run wrote a step again, the later row counts.

    Raises:
        UsageError: a value is not a number.
    """
    points: dict[str, dict[int, float]] = {}
    for number, row in enumerate(_rows(path) if path.is_file() else [], start=2):
        try:
            step = int(float(row["step"]))
            for name, value in row.items():
                if name != "step" and value:
                    points.setdefault(name, {})[step] = float(value)
        except (KeyError, ValueError, TypeError) as error:
            raise UsageError(f"{path}, line {number}: not a row of metrics ({error}); mend or remove it.") from error
    ordered = {name: sorted(column.items()) for name, column in points.items()}
    return {
        name: Curve(tuple(step for step, _ in column), tuple(value for _, value in column))
        for name, column in ordered.items()
    }


def _sites(
    summary: Mapping[str, Any], cases: Mapping[str, list[CaseResult]], config: Mapping[str, Any]
) -> tuple[SiteResult, ...]:
    prior = summary.get("location_prior") or {}
    order = [str(name) for name in (config.get("data") or {}).get("held_out") or {}]

    def place(name: str) -> tuple[bool, int, str]:
        return (
            summary["sites"][name]["role"] != "source_test",
            order.index(name) if name in order else len(order),
            name,
        )

    return tuple(
        SiteResult(
            name=name,
            role=site["role"],
            n=int(site["n"]),
            statistics={
                metric: _statistic(values)
                for metric, values in site.items()
                if metric in STATISTICS or (isinstance(values, dict) and "median" in values)
            },
            failures=int(site["failures"]),
            both_empty=int(site["both_empty"]),
            location_prior=prior.get(name),
            cases=tuple(sorted(cases.get(name, []), key=lambda case: (case.dice, case.case))),
            doubt=_doubt(site),
        )
        for name, site in sorted(summary["sites"].items(), key=lambda item: place(item[0]))
    )


def _doubt(told: Mapping[str, Any]) -> float | None:
    """Whether the model knows where it errs."""
    rho = (told.get("uncertainty_and_error") or {}).get("spearman")
    return None if rho is None else float(rho)


def _edges(told: Sequence[float] | None) -> tuple[float, float] | None:
    return None if told is None else (float(told[0]), float(told[1]))


def _statistic(values: Mapping[str, Any]) -> Statistic:
    return Statistic(*(_number(values.get(name)) for name in ("mean", "sd", "median")))


def _cases(evaluation: Path) -> dict[str, list[CaseResult]]:
    path = evaluation / "per_case.csv"
    sites: dict[str, list[CaseResult]] = {}
    rows = _rows(path)
    further = [name for name in (rows[0] if rows else ()) if name not in (*MEASURES, *_NO_MEASURES)]
    measures = (*MEASURES, *(name for name in further if all(map(_is_number, (row[name] for row in rows)))))
    for number, row in enumerate(rows, start=2):
        try:
            file = Path(row["site"]) / f"{row['case']}.npz"
            slices, volume = evaluation / "overlays" / file, evaluation / "volumes" / file
            case = CaseResult(
                site=row["site"],
                case=row["case"],
                metrics={name: _number(row.get(name)) for name in measures},
                empty_prediction=_truth(row["empty_prediction"]),
                empty_reference=_truth(row["empty_reference"]),
                slices=slices if slices.is_file() else None,
                volume=volume if volume.is_file() else None,
                digest=_digest(evaluation / "cases" / file.with_suffix(".json")),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise UsageError(
                f"{path}, line {number}: not a row of case results ({error}); evaluate the run again."
            ) from error
        sites.setdefault(case.site, []).append(case)
    return sites


def _digest(path: Path) -> str:
    return str(_json(path, optional=True).get("digest", ""))


def _hashes(run: RunFolder, cases: Mapping[str, Sequence[CaseResult]]) -> dict[str, str]:
    """SHA-256 of the run's files that its numbers rest on, and of the images and labels of all cases."""
    files = (run.config, run.split, run.metrics, run.evaluation / "per_case.csv", run.evaluation / "summary.json")
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
    digests = sorted(f"{case.site}/{case.case} {case.digest}\n" for site in cases.values() for case in site)
    return found | {"images and labels": hashlib.sha256("".join(digests).encode()).hexdigest()}


def _is_number(value: str | None) -> bool:
    try:
        _number(value)
    except ValueError:
        return False
    return True


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def _truth(value: str) -> bool:
    return value.strip().lower() in {"true", "1"}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: can't be read ({error}); evaluate the run again.") from error


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()


def _json(path: Path, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    return read_json(path, dict, "evaluate the run again")


def _config(path: Path, text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not readable YAML ({' '.join(str(error).split())}); restore it.") from error
    return value if isinstance(value, dict) else {}
