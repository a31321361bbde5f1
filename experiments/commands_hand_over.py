"""The words of ``pansite predict`` and ``pansite export``; what they need is imported when they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from datamodules.errors import UsageError
from experiments.command_line import Add, with_evaluation_keys
from experiments.locate import find_run, runs_and_images

RUN = "a run's folder, or the folder above where it is the only one"
IMAGES = "a NIfTI file, a folder with a DICOM series, or a CSV (case,image); further runs predict along"


def add_hand_over(commands: Any, add: Add) -> None:
    """Add the commands.

    Args:
        commands: where to.
        add: adds a command by name, description and handler.
    """
    predict = add(commands, "predict", "segment images with the weights of runs", _predict)
    export = add(commands, "export", "hand the weights of a run, or of several, over as a MONAI bundle", _export)
    predict.add_argument("run", metavar="RUN", help=RUN)
    export.add_argument("runs", metavar="RUN", nargs="+", help=f"{RUN}; of several the mean is taken")
    for command in (predict, export):
        command.add_argument("--output", metavar="DIR", required=True, type=Path, help="the folder to be written")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help=IMAGES)
    predict.add_argument("--uncertainty", action="store_true", help="also write how uncertain each voxel is")


def _predict(parsed: argparse.Namespace, overrides: list[str]) -> int:
    runs, images = runs_and_images([parsed.run, *parsed.images])
    if not images:
        raise UsageError("pansite predict: names runs alone; give the images behind them.")
    from experiments.prediction import predict

    return predict(
        runs,
        images,
        output=parsed.output.expanduser(),
        overrides=with_evaluation_keys(overrides),
        uncertainty=parsed.uncertainty,
    )


def _export(parsed: argparse.Namespace, overrides: list[str]) -> int:
    runs = [find_run(run) for run in parsed.runs]
    from experiments.bundle.export import export

    return export(runs, parsed.output.expanduser(), with_evaluation_keys(overrides))
