"""What a run's folder holds beside the least: volumes for the viewer, further measures, the data card, digests."""

from __future__ import annotations

import csv
import hashlib
import json
import statistics
from pathlib import Path

import numpy as np

from callbacks.seen import Seen
from callbacks.viewed_volumes import write_volume
from lightning_modules.metrics.record import DETAILS

SHAPE = (48, 40, 30)
SPACING = (2.0, 2.0, 3.0)


def enrich(folder: Path) -> None:
    """Add to an evaluated run what an evaluation keeps of each case and site."""
    evaluation, rng = folder / "evaluation", np.random.default_rng(3)
    with (evaluation / "per_case.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        _volume(rng, evaluation / "volumes" / row["site"] / f"{row['case']}.npz", float(row["dice"]))
        _measure(rng, row)
        digest = evaluation / "cases" / row["site"] / f"{row['case']}.json"
        digest.parent.mkdir(parents=True, exist_ok=True)
        digest.write_text(json.dumps({"digest": hashlib.sha256(f"{row['site']}{row['case']}".encode()).hexdigest()}))
    with (evaluation / "per_case.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _summarise(evaluation / "summary.json", rows)
    sites = list(dict.fromkeys(row["site"] for row in rows))
    card = {
        site: _card(rng, place, [row["case"] for row in rows if row["site"] == site])
        for place, site in enumerate(sites)
    }
    (evaluation / "data_card.json").write_text(json.dumps({"sites": card}))


def _volume(rng: np.random.Generator, path: Path, dice: float) -> None:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    distance = np.sqrt((x / 0.55) ** 2 + (y / 0.35) ** 2 + (z / 0.45) ** 2)
    apart = np.sqrt(((x - 0.5 * (1 - dice)) / 0.5) ** 2 + (y / 0.33) ** 2 + (z / 0.4) ** 2)
    image = (0.35 + 0.3 * (distance < 1) + rng.normal(0, 0.03, SHAPE)).clip(0, 1).astype(np.float32)
    probability = (1 / (1 + np.exp(12 * (apart - 1)))).astype(np.float32) * (dice > 0)
    write_volume(path, Seen(image, distance < 1, probability, SPACING))


def _measure(rng: np.random.Generator, row: dict[str, str]) -> None:
    dice = float(row["dice"])
    for name in DETAILS:
        value = {"volume_error_ml": rng.normal(0, 9), "uncertainty": 1 - dice + rng.normal(0, 0.05)}.get(
            name, dice * 0.9
        )
        row[name] = "" if dice == 0 and name == "recall_tail" else f"{value:.6f}"


def _summarise(path: Path, rows: list[dict[str, str]]) -> None:
    summary = json.loads(path.read_text())
    for name, site in summary["sites"].items():
        for measure in DETAILS:
            values = [float(row[measure]) for row in rows if row["site"] == name and row[measure]]
            site[measure] = {"mean": statistics.fmean(values), "sd": None, "median": statistics.median(values)}
        site["uncertainty_and_error"] = {"spearman": 0.81, "n": site["n"]}
    summary["uncertainty_and_error"] = {"spearman": 0.77, "n": len(rows)}
    summary["voxel_edges_mm"] = [0.7, 5.0]
    summary["looks_before"] = {name: 2 for name, site in summary["sites"].items() if site["role"] == "held_out"}
    path.write_text(json.dumps(summary))


def _card(rng: np.random.Generator, place: int, cases: list[str]) -> dict[str, object]:
    medians = {
        "pancreas_hu": 90 - 9 * place,
        "ring_hu": 20 + 3 * place,
        "contrast_hu": 70 - 12 * place,
        "slice_mm": 1 + place,
    }
    return {
        "role": "held_out" if place else "source",
        "cases": len(cases),
        "patients": len(cases),
        "phase": {"portal venous": len(cases)},
        "quantities": {name: {"unit": "", "median": value, "shift": -1.5 * place} for name, value in medians.items()},
        "by_case": {
            case: {"quantities": {name: value + rng.normal(0, 0.3) for name, value in medians.items()}}
            for case in cases
        },
    }
