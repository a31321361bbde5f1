"""What an evaluation has found, shown in its W&B run: the table of cases, pictures, plots, the summary, the report."""

from __future__ import annotations

import csv
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from datamodules.atomic import write_text
from experiments import wandb_run
from experiments.config import ExperimentConfig
from experiments.console import say
from experiments.report.collect import collect
from experiments.report.model import Results
from experiments.report.overlays import choice, read_slices
from experiments.run_folder import RunFolder
from experiments.wandb_plots import plots

if TYPE_CHECKING:
    import wandb

CLASSES = {1: "pancreas"}
_FILES = ("report.html", "overview.png", "per_case.csv", "summary.json")


def log_results(config: ExperimentConfig, run: RunFolder) -> None:
    """Log the evaluation of a run into its W&B run; what was logged already is not logged again.

    On the first rank, after the report is written. Whatever goes wrong costs a sentence.
    """
    if config.logging.wandb == "disabled":
        return
    digest = hashlib.sha256(b"".join((run.evaluation / name).read_bytes() for name in _FILES)).hexdigest()
    mark = run.path / "wandb" / "results"
    if mark.is_file() and mark.read_text(encoding="utf-8").strip() == digest:
        return
    experiment = wandb_run.begin(config, run)
    if experiment is None:
        return
    try:
        _log(experiment, run, collect(run.path))
        write_text(mark, f"{digest}\n")
    except Exception as error:  # the evaluation stands on disk, whatever W&B makes of it
        say(f"W&B: the results could not be logged ({error}); they are in {run.evaluation}.")


def _log(experiment: Any, run: RunFolder, results: Results) -> None:
    import wandb

    with (run.evaluation / "per_case.csv").open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    # Lightning counts the steps of its loggers from 0.
    step = {"trainer/global_step": max(0, int(results.checkpoint["step"]) - 1)}
    table = wandb.Table(columns=columns, data=[[*row[:2], *map(_value, row[2:])] for row in rows])
    experiment.log({"evaluation/per_case": table, **step})
    overview = wandb.Image(str(run.evaluation / "overview.png"))
    experiment.log({"evaluation/overview": overview, **_overlays(results), **plots(results), **step})
    experiment.summary.update(_numbers(results))
    report = wandb.Artifact(f"report-{experiment.id}", type="report")
    for name in _FILES:
        report.add_file(str(run.evaluation / name))
    experiment.log_artifact(report)


def _overlays(results: Results) -> dict[str, wandb.Image]:
    """The axial slice of the worst and the median case of each site, label and prediction as layers of their own.

    Each under a name of its own: W&B wants the pictures of a list to be of one size.
    """
    import wandb

    pictures = {}
    for site in results.sites:
        for rank, case in choice(site.cases) if site.cases else []:
            if case.slices is None:
                continue
            axial = next(each for each in read_slices(case.slices) if each.plane == "axial")
            height, width = axial.image.shape
            size = width, max(1, round(height * axial.aspect))
            masks = {
                name: {
                    "mask_data": np.asarray(
                        Image.fromarray((mask > 0).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
                    ),
                    "class_labels": CLASSES,
                }
                for name, mask in (("label", axial.label), ("prediction", axial.prediction))
            }
            grey = np.asarray(Image.fromarray(axial.image).resize(size, Image.Resampling.BILINEAR))
            caption = f"{site.name}/{case.case} ({rank}), Dice {case.dice:.3f}"
            pictures[f"evaluation/overlays/{site.name}/{rank}"] = wandb.Image(grey, masks=masks, caption=caption)
    return pictures


def _numbers(results: Results) -> dict[str, float | int]:
    numbers: dict[str, float | int] = {}
    for site in results.sites:
        numbers |= {f"evaluation/{site.name}/{name}": value.mean for name, value in site.statistics.items()}
        numbers[f"evaluation/{site.name}/failures"] = site.failures
    numbers |= {f"evaluation/held_out_macro/{name}": value for name, value in results.macro.items()}
    return numbers | {f"evaluation/gap/{name}": value for name, value in results.gap.items()}


def _value(text: str) -> float | bool | str | None:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if text else None
    except ValueError:
        return text
