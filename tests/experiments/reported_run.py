"""A run folder as ``fit`` and ``evaluate`` leave it, with plausible numbers, from which reports are written."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

SITES = {"phantom_source": 0.86, "phantom_b": 0.74, "phantom_a": 0.79, "phantom_d": 0.55, "phantom_c": 0.68}
COLUMNS = (
    "site", "case", "dice", "nsd", "hd95", "assd", "precision", "recall", "volume_ml", "reference_volume_ml",
    "empty_prediction", "empty_reference",
)  # fmt: skip
REGIONS = ("head_core", "head_rim", "body_core", "body_rim", "tail_core", "tail_rim", "near", "mid", "far")
EVIL = '<img src=x onerror="document.title=1">&$x'


def make_run(root: Path, *, cases: int = 12, first_case: str | None = None, slices: bool = True) -> Path:
    """A run folder as ``fit`` and ``evaluate`` leave it: five sites, plausible numbers, a failure."""
    rng = np.random.default_rng(7)
    folder = root / "phantom_dual_ssl" / "3f9a1c07b2de"
    evaluation = folder / "evaluation"
    evaluation.mkdir(parents=True)
    held_out = "\n".join(f"    {name}: {{layout: phantom}}" for name in list(SITES)[1:])
    (folder / "config.yaml").write_text(
        "name: phantom_dual_ssl\nseed: 0\ndata:\n  source: {name: phantom_source, layout: phantom}\n"
        f"  held_out:\n{held_out}\n  spacing: [3.0, 3.0, 3.0]\n  patch_size: [48, 48, 48]\n"
        "trainer: {max_steps: 1800}\n"
    )
    (folder / "overrides.txt").write_text("trainer.max_steps=1800\n")
    environment = {"packages": {"torch": "2.13.0", "wandb": None}, "git": {"commit": "abc", "changed": False}}
    (folder / "environment.json").write_text(json.dumps({**environment, "gpus": []}))
    split = {part: [f"case_{n:03d}" for n in range(20)] for part in ("train", "validation", "test")}
    (folder / "split.json").write_text(json.dumps(split))
    rows = [_row(rng, site, f"case_{n:03d}", mean, n) for site, mean in SITES.items() for n in range(cases)]
    if first_case is not None:
        rows[0]["case"] = first_case
    with (evaluation / "per_case.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (evaluation / "summary.json").write_text(json.dumps(_summary(rows)))
    reason = {"case_099": "image 4-D (512×512×90×2), a 3-D volume is wanted"}
    (evaluation / "excluded.json").write_text(json.dumps({"phantom_a": reason, "phantom_b": {}}))
    _metrics(rng, folder / "metrics.csv")
    if slices:
        for row in rows:
            _slices(rng, evaluation / "overlays" / row["site"] / f"{row['case']}.npz", row["dice"])
    return folder


def _row(rng: np.random.Generator, site: str, case: str, mean: float, n: int) -> dict[str, Any]:
    empty = site == "phantom_d" and n == 3
    dice = 0.0 if empty else float(np.clip(rng.normal(mean, 0.3 * (1 - mean) + 0.02), 0.02, 0.97))
    volume = float(rng.normal(80, 20))
    return {
        "site": site, "case": case, "dice": dice, "nsd": dice**0.7 if dice else 0.0,
        "hd95": 511.3 if empty else 3 + 60 * (1 - dice) ** 1.5, "assd": 511.3 if empty else 12 * (1 - dice) ** 1.4,
        "precision": "" if empty else min(1.0, dice + 0.05), "recall": max(0.0, dice - 0.03),
        "volume_ml": 0.0 if empty else volume * (0.8 + 0.3 * dice), "reference_volume_ml": volume,
        "empty_prediction": empty, "empty_reference": False,
    }  # fmt: skip


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    sites: dict[str, Any] = {}
    for site in sorted(SITES):
        own = [row for row in rows if row["site"] == site]
        sites[site] = {"role": "source_test" if site == "phantom_source" else "held_out", "n": len(own)}
        for metric in ("dice", "nsd", "hd95", "assd"):
            values = [row[metric] for row in own]
            sd = statistics.stdev(values) if len(values) > 1 else None
            sites[site][metric] = {"mean": statistics.mean(values), "sd": sd, "median": statistics.median(values)}
        sites[site] |= {"failures": sum(row["empty_prediction"] for row in own), "both_empty": 0}
    metrics = ("dice", "nsd", "hd95", "assd")
    macro = {m: statistics.mean(sites[s][m]["mean"] for s in sites if s != "phantom_source") for m in metrics}
    return {
        "checkpoint": {"name": "best.ckpt", "step": 1650, "sha256": "5d41" * 16},
        "tolerance_mm": 2.0,
        "sites": sites,
        "held_out_macro": macro,
        "gap": {m: sites["phantom_source"][m]["mean"] - macro[m] for m in metrics},
        "location_prior": dict.fromkeys(sites, 0.31) | {"phantom_d": 0.35},
    }


def _metrics(rng: np.random.Generator, path: Path) -> None:
    levels = {"segmentation": (1.4, 0.25), "contrastive": (4.6, 2.9), "restoration": (0.06, 0.008)}
    names = [f"loss/{t}" for t in levels] + [f"grad_norm/{t}" for t in levels] + [f"fill/{r}" for r in REGIONS]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", *names, "val/dice"])
        writer.writeheader()
        for step in range(10, 1801, 10):
            row: dict[str, Any] = {"step": step}
            for term, (high, low) in levels.items():
                level = low + (high - low) * np.exp(-step / 300)
                row[f"loss/{term}"] = level * rng.lognormal(0, 0.12)
                row[f"grad_norm/{term}"] = level * rng.lognormal(-0.7, 0.3)
            row |= {f"fill/{r}": min(1.0, rng.normal(0.97 - 0.06 * i % 0.4, 0.03)) for i, r in enumerate(REGIONS)}
            if step % 150 == 0:
                row["val/dice"] = 0.85 * (1 - np.exp(-step / 350)) + rng.normal(0, 0.01)
            writer.writerow(row)


def _slices(rng: np.random.Generator, path: Path, dice: float) -> None:
    """Three pictures of a body with an organ in it; the axial plane is isotropic, the others have thick slices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for plane, rows in (("axial", 220), ("coronal", 90), ("sagittal", 90)):
        aspect = 220 / rows
        y, x = np.mgrid[:rows, :280].astype(float)
        y *= aspect

        def ellipse(cx: float, cy: float, a: float, b: float, y: np.ndarray = y, x: np.ndarray = x) -> np.ndarray:
            return ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1

        image = 20.0 + 90 * ellipse(140, 110, 130, 98) + 60 * ellipse(85, 90, 55, 50) + 90 * ellipse(140, 170, 18, 16)
        bend = 14 * np.sin(x / 22)
        label = (((x - 160) / 48) ** 2 + ((y - 110 + bend) / 13) ** 2) < 1
        shift = 24 * (1 - dice)
        prediction = (((x - 160 - shift) / 46) ** 2 + ((y - 110 + bend + shift / 3) / 12) ** 2 < 1) & (dice > 0)
        edge = np.exp(-((((x - 160) / 48) ** 2 + ((y - 110 + bend) / 13) ** 2 - 1) ** 2) / 0.4)
        image = np.clip(image + 35 * label + rng.normal(0, 13, image.shape), 0, 255)
        arrays |= {
            f"{plane}_image": image.astype(np.uint8),
            f"{plane}_label": label.astype(np.uint8),
            f"{plane}_prediction": prediction.astype(np.uint8),
            f"{plane}_uncertainty": (230 * edge).astype(np.uint8),
            f"{plane}_aspect": aspect,
        }
    np.savez_compressed(path, **arrays)
