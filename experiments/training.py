"""Fitting one run on its source site, from a configuration to ``last.ckpt`` and ``best.ckpt``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import wandb
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from pytorch_lightning.loggers import Logger, WandbLogger

from callbacks.checkpoint_io import KillSafeCheckpointIO, read_checkpoint
from callbacks.checkpoints import best_checkpoint, resume_checkpoint
from callbacks.metrics_file import MetricsFile, MetricsFileKeeper
from callbacks.progress import ProgressBar
from datamodules.errors import UsageError
from datamodules.single_source import SingleSourceDataModule
from experiments import initial_weights
from experiments.config import ExperimentConfig, TrainerConfig
from experiments.console import own_words, say
from experiments.initial_weights import misfit
from experiments.memory import keep_freed_memory
from experiments.run_folder import RunFolder
from lightning_modules.dual_ssl import DualSSLModule, Preprocessing

PRECISIONS = {"32": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}


def fit(
    config: ExperimentConfig,
    run: RunFolder,
    module: DualSSLModule,
    data: SingleSourceDataModule,
    resume: Path | None,
) -> None:
    """Train the run, from the checkpoint ``resume`` where there is one."""
    with own_words():
        trainer = build_trainer(config, run)
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        trainer.fit(module, datamodule=data, ckpt_path=resume and str(resume), weights_only=True)
    if config.logging.wandb == "offline":
        say(f"W&B was offline; to send this run: wandb sync {run.path}/wandb/offline-run-*")


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


def check_resumable(module: DualSSLModule, checkpoint: Path) -> None:
    """Let training go on only from what such a training has left.

    Raises:
        UsageError: the checkpoint is of another network, or not of a training at all.
    """
    content = read_checkpoint(checkpoint)
    reason = misfit(content["state_dict"], module.state_dict())
    if missing := [key for key in ("pytorch-lightning_version", "loops", "optimizer_states") if key not in content]:
        reason = f"it has no {missing[0]}"
    if reason:
        raise UsageError(f"{checkpoint}: is not a checkpoint of this run ({reason}); start anew with --fresh.")


def build_trainer(config: ExperimentConfig, run: RunFolder) -> pl.Trainer:
    """Lightning's Trainer of a run: one long epoch of ``max_steps`` steps, with all it writes in the run's folder."""
    settings = config.trainer
    return pl.Trainer(
        **trainer_settings(settings),
        default_root_dir=run.path,
        max_steps=settings.max_steps,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip or None,
        val_check_interval=min(settings.validate_every, settings.max_steps) * settings.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every,
        logger=_loggers(config, run),
        callbacks=_callbacks(settings, run),
        plugins=[KillSafeCheckpointIO()],
    )


def trainer_settings(settings: TrainerConfig) -> dict[str, Any]:
    """What the Trainers of fitting and of evaluation have in common."""
    return {
        "accelerator": settings.accelerator,
        "devices": settings.devices,
        "num_nodes": settings.nodes,
        "strategy": "ddp" if settings.devices * settings.nodes > 1 else "auto",
        "precision": PRECISIONS[settings.precision],
        "deterministic": settings.deterministic,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
        "enable_progress_bar": settings.progress_bar,
    }


def _callbacks(settings: TrainerConfig, run: RunFolder) -> list[Callback]:
    averaging = [] if settings.ema is None else [EMAWeightAveraging(decay=settings.ema)]
    progress = [ProgressBar()] if settings.progress_bar else []
    return [
        *averaging,
        MetricsFileKeeper(),
        resume_checkpoint(run.checkpoints, every_n_steps=settings.checkpoint_every),
        best_checkpoint(run.checkpoints),
        *progress,
    ]


def _loggers(config: ExperimentConfig, run: RunFolder) -> list[Logger]:
    loggers: list[Logger] = [MetricsFile(run.metrics)]
    if config.logging.wandb != "disabled":
        wandb_logger = WandbLogger(
            name=f"{config.name}/{run.path.name}",
            id=run.wandb_id(),
            project=config.logging.project,
            save_dir=run.path,
            offline=config.logging.wandb == "offline",
            resume="allow",
            settings=wandb.Settings(silent=True),
        )
        # Lightning passes on a setting that wandb has given up, and wandb complains of it in every run.
        wandb_logger._wandb_init.pop("anonymous", None)
        loggers.append(wandb_logger)
    return loggers
