"""Every case on every rung, predicted by each run as its own evaluation predicts, and judged on the native grid."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from callbacks.checkpoint_io import chosen
from datamodules import progress
from datamodules.native import to_native
from datamodules.preprocessing import Canonical, preprocess
from datamodules.store import Spacing
from datamodules.window import apply_window
from experiments.config import ExperimentConfig
from experiments.console import say
from experiments.devices import device_of
from experiments.evaluation import inference_settings
from experiments.ladder.cells import Cells
from experiments.ladder.pictures import keep, place_of
from experiments.ladder.plan import Plan
from experiments.ladder.scans import Scan, Scans
from experiments.run_folder import RunFolder
from experiments.signals import SIGNALS
from lightning_modules.dual_ssl import DualSSLModule
from lightning_modules.inference import mask_of
from lightning_modules.loading import load_module
from lightning_modules.metrics import CaseMetrics, case_metrics


@dataclass(frozen=True)
class Climber:
    """A run that climbs.

    Attributes:
        name: what it is called among the others.
        run: its folder.
        config: its experiment, with what the command line says of the evaluation.
        cells: what is measured of it.
    """

    name: str
    run: RunFolder
    config: ExperimentConfig
    cells: Cells


def climb(scans: Scans, plan: Plan, climbers: Sequence[Climber]) -> None:
    """Measure what is missing, each cell on disk before the next one is begun.

    A scan is made once for all runs; all rungs of a case come before the next case.

    Raises:
        UsageError: a checkpoint can't be loaded, or a case's files are not what they were.
    """
    rungs = [(case, rung) for case in scans.cases for rung in plan.rungs()]
    todo = {
        (case, rung): wanting
        for case, rung in rungs
        if (wanting := [climber for climber in climbers if climber.cells.read(case, rung) is None])
    }
    total, missing = len(rungs) * len(climbers), sum(map(len, todo.values()))
    say(f"{scans.title}: {total} cells of the ladder, {missing or 'none'} of them still missing")
    if not todo:
        return
    models = {climber.name: _model(climber) for climber in climbers if any(climber in some for some in todo.values())}
    shown = climbers[0].config.trainer.progress_bar
    # What is measured stays: a scheduler's notice need not wait for the end.
    with SIGNALS.at_once(), progress.bar(shown) as bar:
        task = bar.add_task("climbing", total=missing)
        for (case, rung), wanting in todo.items():
            scan = scans.scan(case, rung)
            grids: dict[Spacing, Canonical] = {}
            for climber in wanting:
                model = models[climber.name]
                spacing = model.preprocessing.spacing
                if spacing not in grids:
                    grids[spacing] = preprocess(scan.image, None, spacing)
                picture = place_of(climber.cells.folder, rung) if case == scans.cases[0] else None
                climber.cells.write(case, rung, measure(model, climber.config, scan, grids[spacing], picture))
                bar.advance(task)


def measure(
    model: DualSSLModule, config: ExperimentConfig, scan: Scan, grid: Canonical, picture: Path | None = None
) -> CaseMetrics:
    """Predict a scan and judge the prediction on the label's own grid.

    Args:
        model: a run's weights.
        config: its experiment.
        scan: the scan.
        grid: the same on the model's training grid.
        picture: where a slice of it goes; None keeps none.
    """
    volume = apply_window(torch.from_numpy(grid.image), model.preprocessing.window)[None, None].to(model.device)
    with _precision(config.trainer.precision, model.device):
        probability = model.predict_probability(volume)[0, 0].float().cpu().numpy()
    width, height, depth = scan.label.shape
    record = grid.unstored("ladder", (width, height, depth), scan.affine)
    if picture is not None:
        keep(picture, grid, scan.label, probability, record, model.preprocessing.window)
    found = to_native(probability, record)
    edges = np.linalg.norm(scan.affine[:3, :3], axis=0).tolist()
    mask = mask_of(found, config.evaluation.smallest_piece)
    return case_metrics(mask, scan.label, edges, config.evaluation.tolerance)


def _model(climber: Climber) -> DualSSLModule:
    config = climber.config
    module = load_module(chosen(climber.run.checkpoints, config.evaluation.checkpoint))
    module.inference = inference_settings(config.evaluation)
    if config.trainer.channels_last:
        module.use_channels_last()
    return module.to(device_of(config.trainer))


def _precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """As Lightning evaluates: halves as ``trainer.precision`` says, on CPUs bfloat16 whichever is asked for."""
    if name == "32":
        return nullcontext()
    half = torch.float16 if name == "16-mixed" and device.type == "cuda" else torch.bfloat16
    return torch.autocast(device.type, dtype=half)
