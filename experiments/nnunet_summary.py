"""``evaluation.nnunet: true``: an evaluation as nnU-Net v2 writes it, ``evaluation/nnunet/<site>/summary.json``.

    foreground_mean   Dice, IoU, TP, FP, FN, TN, n_pred, n_ref: mean over the cases
    mean              the same by label; there is label 1 alone
    metric_per_case   the same of each case, with the files compared

Counts are of voxels on the image's own grid. As there, a case without pancreas in reference and prediction has NaN for
Dice and IoU, and is in no mean of these; ``summary.json`` of the evaluation itself leaves none out.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.rows import Evaluation, read_row
from datamodules.atomic import write_text
from datamodules.store import CaseRecord

METRICS = ("Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref")


def write_nnunet(evaluation: Evaluation, predicted: Callable[[CaseRecord], Path]) -> list[Path]:
    """Write the summary of each site.

    Args:
        evaluation: one that is complete.
        predicted: where a case's prediction is, or would be.

    Returns:
        The files.
    """
    files = []
    for site in evaluation.roles:
        cases = [_case(evaluation, record, predicted(record)) for record in _of(evaluation, site)]
        if cases:
            mean = {name: _mean([case["metrics"]["1"][name] for case in cases]) for name in METRICS}
            content = {"foreground_mean": mean, "mean": {"1": mean}, "metric_per_case": cases}
            files.append(evaluation.folder / "nnunet" / site / "summary.json")
            # With NaN, as nnU-Net writes and reads it.
            write_text(files[-1], json.dumps(content, indent=4, sort_keys=True) + "\n")
    return files


def _of(evaluation: Evaluation, site: str) -> list[CaseRecord]:
    return sorted((record for record in evaluation.records if record.site == site), key=lambda record: record.case)


def _case(evaluation: Evaluation, record: CaseRecord, predicted: Path) -> dict[str, Any]:
    """From a row's volumes and recall, which are ratios of whole numbers of voxels."""
    row = read_row(evaluation, record)
    assert row is not None, "a complete evaluation has all rows"
    voxel_ml = math.prod(np.linalg.norm(np.array(record.native_affine)[:3, :3], axis=0).tolist()) / 1000
    n_pred, n_ref = round(row.volume_ml / voxel_ml), round(row.reference_volume_ml / voxel_ml)
    tp = round(row.recall * n_ref) if n_pred else 0
    fp, fn = n_pred - tp, n_ref - tp
    union = tp + fp + fn
    metrics = {
        "Dice": 2 * tp / (n_pred + n_ref) if union else math.nan,
        "IoU": tp / union if union else math.nan,
        "TP": tp,
        "FP": fp,
        "FN": fn,
        "TN": math.prod(record.native_shape) - union,
        "n_pred": n_pred,
        "n_ref": n_ref,
    }
    return {"metrics": {"1": metrics}, "prediction_file": str(predicted), "reference_file": str(record.label_path)}


def _mean(values: list[float]) -> float:
    there = [value for value in values if not math.isnan(value)]
    return statistics.fmean(there) if there else math.nan
