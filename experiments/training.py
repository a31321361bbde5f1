"""Fitting one run on its source site, from a configuration to ``last.ckpt`` and ``best.ckpt``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from callbacks.checkpoint_io import KillSafeCheckpointIO, read_checkpoint
from callbacks.checkpoints import best_checkpoint, resume_checkpoint
from callbacks.conditions import ConditionsGuard, changed_since, refuse
from callbacks.early_end import EndAtValidation
from callbacks.metrics_file import MetricsFile, MetricsFileKeeper
from callbacks.numerics import FiniteAverage, NonFiniteGuard
from callbacks.panels import PanelWriter
from callbacks.preemption import Preemption
from callbacks.progress import ProgressBar
from callbacks.requests import Request, Stopped
from datamodules.errors import UsageError
from datamodules.single_source import SingleSourceDataModule
from experiments import initial_weights, wandb_run
from experiments.config import ExperimentConfig, TrainerConfig
from experiments.console import own_words, say
from experiments.launch import cluster_environments
from experiments.memory import keep_freed_memory
from experiments.ranks import strategy, together
from experiments.run_folder import RunFolder
from experiments.signals import SIGNALS
from experiments.sweep import watching
from lightning_modules.dual_ssl import DualSSLModule, Preprocessing
from lightning_modules.pretraining import pretrains
from lightning_modules.stored import misfit, writer

PRECISIONS = {"32": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}


def fit(
    config: ExperimentConfig,
    run: RunFolder,
    module: DualSSLModule,
    data: SingleSourceDataModule,
    resume: Path | None,
    inexact: bool = False,
) -> None:
    """Train the run, from the checkpoint ``resume`` where there is one, ``inexact`` under other conditions too.

    Raises:
        Stopped: a signal has asked for it; ``last.ckpt`` is of the step after which it was heeded.
        Pruned: the sweep that this is a trial of has ended it, at a validation.
    """
    if (watch := watching.current()) is not None:
        watch.begun(run.path)
    with own_words(), together():
        trainer = build_trainer(config, run, inexact)
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        with SIGNALS.released():
            trainer.fit(module, datamodule=data, ckpt_path=resume and str(resume), weights_only=True)
    (preemption,) = (callback for callback in trainer.callbacks if isinstance(callback, Preemption))  # type: ignore[attr-defined]
    if preemption.agreed:
        raise Stopped(Request(preemption.agreed), step=trainer.global_step, agreed=True)
    if any(isinstance(callback, EndAtValidation) and callback.ended for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise watching.Pruned(trainer.global_step)


def build_module(config: ExperimentConfig, data: SingleSourceDataModule) -> DualSSLModule:
    """The experiment's module, from its own initial weights or those of another run (``model.init``)."""
    preprocessing = Preprocessing(spacing=data.spacing, window=config.data.window, patch_size=config.data.patch_size)
    module = DualSSLModule(config.model, preprocessing, seed=config.seed)
    if config.model.init is not None:
        initial_weights.load(module, initial_weights.find(config.model.init))
    if config.trainer.channels_last:
        module.use_channels_last()
    if config.trainer.compile:
        module.network.compile()
    return module


def check_resumable(module: DualSSLModule, checkpoint: Path, settings: TrainerConfig, inexact: bool = False) -> None:
    """Let training go on only from what such a training has left.

    What is known of the conditions is compared here, before anything is written or another rank started.

    Raises:
        UsageError: the checkpoint is of another network, not of a training at all, or of other conditions and
            ``inexact`` does not allow for it.
    """
    content = read_checkpoint(checkpoint)
    reason = misfit(content["state_dict"], module.state_dict())
    if missing := [key for key in ("pytorch-lightning_version", "loops", "optimizer_states") if key not in content]:
        reason = f"it has no {missing[0]}"
    if reason:
        raise UsageError(
            f"{checkpoint}: is not a checkpoint of this run: {reason} ({writer(content)}); start anew with --fresh."
        )
    known = {"ranks": settings.devices * settings.nodes, "torch": str(torch.__version__), **_flags(settings)}
    if (changed := changed_since(content, known)) and not inexact:
        refuse(str(checkpoint), content, changed)


def build_trainer(config: ExperimentConfig, run: RunFolder, inexact: bool = False) -> pl.Trainer:
    """Lightning's Trainer of a run: one long epoch of ``max_steps`` steps, with all it writes in the run's folder."""
    settings = config.trainer
    return pl.Trainer(
        **trainer_settings(settings),
        # No folder: under SLURM Lightning takes up any hpc_ckpt that it finds there, whatever its step.
        default_root_dir=run.config,
        max_steps=settings.max_steps,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip or None,
        val_check_interval=min(settings.validate_every, settings.max_steps) * settings.accumulate,
        check_val_every_n_epoch=None,
        # What is only pretrained has nothing that validation could judge.
        limit_val_batches=0 if pretrains(config.model) else None,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every,
        logger=_loggers(config, run),
        callbacks=_callbacks(config, run, inexact),
        plugins=[KillSafeCheckpointIO(), *cluster_environments()],
    )


def trainer_settings(settings: TrainerConfig) -> dict[str, Any]:
    """What the Trainers of fitting and of evaluation have in common."""
    return {
        "accelerator": settings.accelerator,
        "devices": settings.devices,
        "num_nodes": settings.nodes,
        "strategy": strategy(settings),
        "precision": PRECISIONS[settings.precision],
        "deterministic": settings.deterministic,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
        "enable_progress_bar": settings.progress_bar,
    }


def _callbacks(config: ExperimentConfig, run: RunFolder, inexact: bool) -> list[Callback]:
    settings, every = config.trainer, config.logging.panel_every
    finite = NonFiniteGuard(run.nonfinite, settings.nonfinite_limit)
    averaging = [] if settings.ema is None else [FiniteAverage(settings.ema, finite)]
    progress = [ProgressBar()] if settings.progress_bar else []
    panels = [PanelWriter(run.panels, every)] if every else []
    watch = watching.current()
    judged = [] if watch is None else [EndAtValidation(watch.judge, "val/dice", settings.validate_every)]
    return [
        *averaging,
        finite,
        MetricsFileKeeper(),
        *panels,
        ConditionsGuard(_flags(settings), run.inexact, inexact, say),
        Preemption(SIGNALS),
        *judged,
        resume_checkpoint(run.checkpoints, settings.checkpoint_every, settings.checkpoint_minutes),
        *([] if pretrains(config.model) else [best_checkpoint(run.checkpoints)]),
        *progress,
    ]


def _flags(settings: TrainerConfig) -> dict[str, bool]:
    """Settings that alter bits but not the run."""
    return {name: getattr(settings, name) for name in ("channels_last", "compile", "deterministic")}


def _loggers(config: ExperimentConfig, run: RunFolder) -> list[Logger]:
    shown = wandb_run.logger(config, run)
    return [MetricsFile(run.metrics), *([shown] if shown else [])]
