"""An experiment as one typed tree: what a YAML file says once it is merged, resolved and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from datamodules.config import DataConfig
from experiments.cluster_config import ClusterConfig
from lightning_modules.config import ModelConfig


@dataclass
class TrainerConfig:
    """How a run is trained.

    Attributes:
        max_steps: optimiser steps.
        accelerator: Lightning's accelerator.
        devices: devices a node.
        nodes: nodes.
        precision: Lightning's precision.
        accumulate: batches whose gradients make one step; the global batch is shared out among them.
        gradient_clip: largest norm of the gradient; 0 switches clipping off.
        nonfinite_limit: steps in a row, skipped because loss or gradient was not finite, that stop the run.
        timeout: minutes that a rank waits for the others before all give up.
        ema: decay of the exponential moving average of the weights; null for none.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints to resume from.
        checkpoint_minutes: minutes by the clock after which the next step is saved too; null for none.
        log_every: steps between rows of metrics.csv.
        deterministic: only deterministic kernels; bits on a GPU are promised with this alone.
        compile: torch.compile the network.
        channels_last: channels_last_3d memory format.
        progress_bar: show progress bars.
    """

    max_steps: int = 50_000
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    accumulate: int = 1
    gradient_clip: float = 12.0
    nonfinite_limit: int = 5
    timeout: float = 30.0
    ema: float | None = None
    validate_every: int = 250
    checkpoint_every: int = 250
    checkpoint_minutes: float | None = None
    log_every: int = 50
    deterministic: bool = False
    compile: bool = False
    channels_last: bool = False
    progress_bar: bool = True


@dataclass
class EvaluationConfig:
    """How a run is evaluated.

    Attributes:
        checkpoint: the best by source validation, or the last.
        overlap: of neighbouring windows, as a share of the patch.
        flips: average over mirrored inputs; for networks that were trained on mirrored ones, which no augmentation
            here does.
        smallest_piece: pieces of a predicted mask under this share of its largest piece are left out; 0 keeps all, 1
            the largest alone.
        tolerance: of the NSD, mm.
        predictions: write predictions as NIfTI.
        nnunet: also write each site's results as nnU-Net's summary.json.
        prediction_labels: of another tool's predictions, the ids that are the pancreas and are merged; empty for 1,
            where there is no other.
    """

    checkpoint: Literal["best", "last"] = "best"
    overlap: float = 0.5
    flips: bool = False
    smallest_piece: float = 0.0
    tolerance: float = 2.0
    predictions: bool = False
    nnunet: bool = False
    prediction_labels: list[int] = field(default_factory=list)


@dataclass
class LoggingConfig:
    """Where metrics go beside metrics.csv, and pictures of the training.

    Attributes:
        wandb: Weights & Biases.
        project: its project.
        panel_every: steps between panels, pictures of a training batch as the model sees it, in the run folder and in
            W&B; 0 for none.
    """

    wandb: Literal["disabled", "offline", "online"] = "offline"
    project: str = "pansite"
    panel_every: int = 250


@dataclass
class RunConfig:
    """Where runs live: ``<root>/<name>/<id>/``."""

    root: str = field(default="runs", metadata={"path": True})


@dataclass
class ExperimentConfig:
    """An experiment.

    Attributes:
        name: of the experiment; part of the run folder's path.
        seed: of every random draw.
        data: sites, preprocessing, sampling, augmentation.
        model: network, losses, optimiser.
        trainer: how it is trained.
        evaluation: how it is evaluated.
        logging: where metrics go beside metrics.csv, and pictures of the training.
        run: where runs live.
        cluster: what `pansite submit` asks of a cluster.
    """

    name: str
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    run: RunConfig = field(default_factory=RunConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
