"""Evaluating a run: every case of the source's test split and of every held-out site, each computed once."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl

from callbacks.checkpoint_io import chosen
from callbacks.per_case import PerCaseEvaluation
from callbacks.progress import ProgressBar
from callbacks.rows import Evaluation, describe_checkpoint, finished
from callbacks.summary import collect
from datamodules.held_out import HeldOutDataModule
from datamodules.split import Split
from experiments.config import ExperimentConfig
from experiments.console import first_rank, own_words, say
from experiments.location import location_prior_dice
from experiments.run_folder import RunFolder
from experiments.training import trainer_settings
from lightning_modules.dual_ssl import InferenceSettings, load_module


def evaluate(config: ExperimentConfig, run: RunFolder) -> dict[str, Any]:
    """Compute what is missing of ``evaluation/`` and collect the rest.

    Returns:
        What ``summary.json`` holds; of several ranks the first alone may count on it.

    Raises:
        UsageError: the run is not trained yet, or a site keeps no case.
    """
    checkpoint = chosen(run.checkpoints, config.evaluation.checkpoint)
    module = load_module(checkpoint)
    module.inference = InferenceSettings(config.evaluation.overlap, config.evaluation.flips)
    split = Split.from_dict(run.read_split())
    data = HeldOutDataModule(config.data, split, module.preprocessing.spacing)
    data.prepare_data()
    data.setup()
    evaluation = Evaluation(
        folder=run.evaluation,
        checkpoint=describe_checkpoint(checkpoint),
        inference={**asdict(module.inference), "precision": config.trainer.precision},
        roles=data.roles,
        records=[case.record for case in data.cases],
        excluded=data.excluded,
        tolerance=config.evaluation.tolerance,
        predictions=run.predictions if config.evaluation.predictions else None,
        location_prior=location_prior_dice(run.evaluation / "location_prior.json", data.training_cases, data.cases),
    )
    done = finished(evaluation)
    missing = len(data.cases) - len(done)
    say(f"{checkpoint.name}: {len(data.cases)} cases to evaluate, {missing or 'none'} of them still missing")
    if not missing:
        return collect(evaluation)
    if config.trainer.channels_last:
        module.use_channels_last()
    rest = HeldOutDataModule(config.data, split, module.preprocessing.spacing, done)
    with own_words():
        # The checkpoint is always named: under SLURM Lightning would look for one of its own.
        _tester(config, evaluation).test(
            module, datamodule=rest, ckpt_path=str(checkpoint), verbose=False, weights_only=True
        )
    if not first_rank():
        # The first rank alone writes the summary, and may not have done so yet.
        return {}
    summary: dict[str, Any] = json.loads((run.evaluation / "summary.json").read_text(encoding="utf-8"))
    return summary


def _tester(config: ExperimentConfig, evaluation: Evaluation) -> pl.Trainer:
    # A root of its own, outside of what fit writes to.
    progress = [ProgressBar()] if config.trainer.progress_bar else []
    return pl.Trainer(
        **trainer_settings(config.trainer),
        default_root_dir=evaluation.folder,
        logger=False,
        enable_checkpointing=False,
        callbacks=[PerCaseEvaluation(evaluation), *progress],
    )
