"""Evaluating a run: every case of the source's test split and of every held-out site, each computed once."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from callbacks.checkpoint_io import chosen, read_checkpoint
from callbacks.inexact import read_inexact, recorded
from callbacks.per_case import PerCaseEvaluation
from callbacks.preemption import StopBetweenCases
from callbacks.progress import ProgressBar
from callbacks.requests import Request, Stopped
from callbacks.rows import Evaluation, describe_checkpoint, finished
from callbacks.summary import collect
from datamodules.errors import Notice, UsageError
from datamodules.held_out import HeldOutDataModule
from datamodules.split import Split
from experiments import sealing, status
from experiments.config import EvaluationConfig, ExperimentConfig
from experiments.console import first_rank, own_words, say
from experiments.data_card.evaluated import keep_card
from experiments.launch import check, cluster_environments
from experiments.location import location_prior_dice
from experiments.nnunet_summary import write_nnunet
from experiments.ranks import together
from experiments.run_folder import RunFolder
from experiments.signals import SIGNALS
from experiments.training import trainer_settings
from lightning_modules.dual_ssl import InferenceSettings
from lightning_modules.loading import load_module
from lightning_modules.pretraining import CANT_SEGMENT, pretrains

FLIPS = (
    "evaluation.flips=true averages over mirrored images, which no augmentation here trains on: a run may find nothing "
    "in them, and masks shrink. Compare with flips=false before you use them."
)


def evaluate(config: ExperimentConfig, run: RunFolder) -> dict[str, Any]:
    """Compute what is missing of ``evaluation/`` and collect the rest.

    Returns:
        What ``summary.json`` holds; of several ranks the first alone may count on it.

    Raises:
        UsageError: the run is not trained yet, a site keeps no case, or another process evaluates the run.
        Stopped: a signal has asked for it; finished cases are kept.
    """
    if not first_rank():
        return _evaluate(config, run)
    with run.locked("evaluating"):
        run.sweep_evaluation()
        with status.evaluating(run.path, config.trainer.max_steps):
            return _evaluate(config, run)


def _evaluate(config: ExperimentConfig, run: RunFolder) -> dict[str, Any]:
    refuse_pretrained(config, run)
    checkpoint = chosen(run.checkpoints, config.evaluation.checkpoint)
    module = load_module(checkpoint)
    module.inference = inference_settings(config.evaluation)
    split = Split.from_dict(run.read_split())
    data = HeldOutDataModule(config.data, split, module.preprocessing.spacing)
    data.prepare_data()
    data.setup()
    evaluation = Evaluation(
        folder=run.evaluation,
        checkpoint=_described(checkpoint, run),
        inference={**asdict(module.inference), "precision": config.trainer.precision},
        roles=data.roles,
        records=[case.record for case in data.cases],
        excluded=data.excluded,
        tolerance=config.evaluation.tolerance,
        predictions=run.predictions if config.evaluation.predictions else None,
        location_prior=location_prior_dice(run.evaluation / "location_prior.json", data.training_cases, data.cases),
    )
    evaluation = sealing.begun(config.data, run, evaluation, data.overlap)
    if first_rank():
        keep_card(run, data)
    done = finished(evaluation)
    missing = len(data.cases) - len(done)
    say(f"{checkpoint.name}: {len(data.cases)} cases to evaluate, {missing or 'none'} of them still missing")
    if not missing:
        summary: dict[str, Any] = collect(evaluation)
        _write_nnunet(config, run, evaluation)
        sealing.done(config.data, run, evaluation, summary)
        return summary
    if config.trainer.channels_last:
        module.use_channels_last()
    check(config.trainer)
    rest = HeldOutDataModule(config.data, split, module.preprocessing.spacing, done)
    with own_words(), together():
        # The checkpoint is always named: under SLURM Lightning would look for one of its own.
        stop = StopBetweenCases(SIGNALS, run.evaluation)
        with SIGNALS.released():
            _tester(config, evaluation, stop).test(
                module, datamodule=rest, ckpt_path=str(checkpoint), verbose=False, weights_only=True
            )
    if stop.agreed:
        raise Stopped(Request(stop.agreed), agreed=True)
    if not first_rank():
        # The first rank alone writes the summary, and may not have done so yet.
        return {}
    summary = json.loads((run.evaluation / "summary.json").read_text(encoding="utf-8"))
    _write_nnunet(config, run, evaluation)
    sealing.done(config.data, run, evaluation, summary)
    return summary


def inference_settings(config: EvaluationConfig) -> InferenceSettings:
    """How masks come about; with flips, it warns."""
    if config.flips:
        rank_zero_warn(FLIPS, category=Notice)
    return InferenceSettings(config.overlap, config.flips, config.smallest_piece)


def _write_nnunet(config: ExperimentConfig, run: RunFolder, evaluation: Evaluation) -> None:
    if config.evaluation.nnunet and first_rank():
        for file in write_nnunet(evaluation, lambda record: run.predictions / record.site / f"{record.case}.nii.gz"):
            say(f"as nnU-Net writes it: {file}")


def _described(checkpoint: Path, run: RunFolder) -> dict[str, Any]:
    """What is evaluated, and that the run is not exact where that is so."""
    entries = read_inexact(run.inexact) or recorded(read_checkpoint(checkpoint, mmap=True))
    return describe_checkpoint(checkpoint) | ({"inexact": entries} if entries else {})


def refuse_pretrained(config: ExperimentConfig, run: RunFolder) -> None:
    """Refuse a run that is only pretrained, and the evaluation of another tool's predictions: they can't predict.

    Raises:
        UsageError: it is one of these.
    """
    if pretrains(config.model):
        raise UsageError(f"{run.path}: {CANT_SEGMENT}={run.path}.")
    if run.is_outside():
        raise UsageError(
            f"{run.path}: holds the evaluation of another tool's predictions and no weights; "
            f"`pansite evaluate --predictions DIR EXPERIMENT` does it again."
        )


def _tester(config: ExperimentConfig, evaluation: Evaluation, stop: StopBetweenCases) -> pl.Trainer:
    # A root of its own, outside of what fit writes to.
    progress = [ProgressBar()] if config.trainer.progress_bar else []
    return pl.Trainer(
        **trainer_settings(config.trainer),
        default_root_dir=evaluation.folder,
        logger=False,
        enable_checkpointing=False,
        callbacks=[stop, PerCaseEvaluation(evaluation), *progress],
        plugins=[*cluster_environments()],
    )
