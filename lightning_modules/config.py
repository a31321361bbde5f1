"""The ``model:`` section of an experiment: network, the three losses, optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from datamodules.registry import Registry
from lightning_modules.networks.config import NETWORKS, DynUNetConfig, NetworkConfig

OPTIMIZERS = Registry("optimizer")
SCHEDULES = Registry("schedule")


@dataclass
class OptimizerConfig:
    """What every optimiser has.

    Attributes:
        name: the optimiser's name.
        lr: peak learning rate.
        weight_decay: decoupled for AdamW, L2 for SGD; not applied to norms and biases.
    """

    name: str
    lr: float
    weight_decay: float


@OPTIMIZERS.register("adamw", target="lightning_modules.optimisation:adamw")
@dataclass
class AdamWConfig(OptimizerConfig):
    """AdamW (Loshchilov & Hutter, 2019)."""

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)


@OPTIMIZERS.register("sgd", target="lightning_modules.optimisation:sgd")
@dataclass
class SGDConfig(OptimizerConfig):
    """SGD with Nesterov momentum, as nnU-Net trains."""

    name: str = "sgd"
    lr: float = 1e-2
    weight_decay: float = 3e-5
    momentum: float = 0.99


@dataclass
class ScheduleConfig:
    """What every learning-rate schedule has.

    Attributes:
        name: the schedule's name.
        warmup: share of training in which the rate rises linearly from near 0 to its peak.
    """

    name: str
    warmup: float = 0.02


@SCHEDULES.register("poly", target="lightning_modules.optimisation:poly")
@dataclass
class PolyConfig(ScheduleConfig):
    """(1 − t)^power, as nnU-Net."""

    name: str = "poly"
    power: float = 0.9


@SCHEDULES.register("cosine", target="lightning_modules.optimisation:cosine")
@dataclass
class CosineConfig(ScheduleConfig):
    """Half a cosine from the peak to ``floor`` × the peak (Loshchilov & Hutter, 2017)."""

    name: str = "cosine"
    floor: float = 0.0


@dataclass
class ContrastiveConfig:
    """The contrastive term guided by the pancreas' spatial structure; weight 0: not built, no cost.

    Attributes:
        weight: λc at full ramp.
        temperature: τ.
        stride: stride of the decoder features that are contrasted; from cells (stride × spacing) of 6 mm on, the
            organ holds little core, from 12 mm on none.
        dimension: size of the projected embedding.
        views: contrast features of the clean pass alone, or of the corrupted pass too.
        gather: where negatives and positives of other ranks come from.
        slots: samples drawn per image from each positive parcel, and from near, mid and far ring.
        ramp: share of training in which λc rises linearly to its full weight.
    """

    weight: float = 0.1
    temperature: float = 0.1
    stride: int = 2
    dimension: int = 128
    views: Literal["both", "clean"] = "both"
    gather: Literal["grad", "detached", "none"] = "grad"
    slots: tuple[int, int, int, int] = (16, 96, 64, 32)
    ramp: float = 0.1


@dataclass
class RegionConfig:
    """The high-uncertainty region M.

    Attributes:
        band: weight β of the boundary band [−2, 3] mm at the start, and at the end of the ramp.
        reach: candidates lie within this signed distance of the surface, mm.
        share: part of the candidates that M takes.
    """

    band: tuple[float, float] = (1.0, 0.5)
    reach: float = 15.0
    share: float = 0.2


@dataclass
class CorruptionConfig:
    """How appearance is corrupted, cell by cell.

    Attributes:
        cells: edge lengths of the cells in mm; one is drawn per sample.
        eligible: a cell may be corrupted where at least this part of it lies in M.
        probability: with which an eligible cell is corrupted.
        decoys: probability of corrupting a cell outside M.
        operators: relative weight of each operator.
    """

    cells: tuple[float, ...] = (6.0, 9.0, 12.0)
    eligible: float = 0.3
    probability: float = 0.5
    decoys: float = 0.05
    operators: dict[str, float] = field(
        default_factory=lambda: {
            "shuffle": 1.0,
            "remap": 1.0,
            "blur": 1.0,
            "noise": 1.0,
            "inpaint": 1.0,
            "swap": 1.0,
            "random_conv": 1.0,
        }
    )


@dataclass
class RestorationConfig:
    """The restoration of corrupted appearance where the model is uncertain; weight 0: not built, no cost.

    Attributes:
        weight: λr at full ramp.
        channels: width of the thin decoder.
        beta: β of the smooth L1.
        rest: weight of the error outside the corrupted cells.
        segment_corrupted: segment the corrupted image too.
        ramp: share of training in which λr rises linearly to its full weight.
        region: the region M.
        corruption: what is done to the appearance there.
    """

    weight: float = 1.0
    channels: int = 16
    beta: float = 0.05
    rest: float = 0.1
    segment_corrupted: bool = True
    ramp: float = 0.1
    region: RegionConfig = field(default_factory=RegionConfig)
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)


@dataclass
class ModelConfig:
    """Network, losses and optimiser.

    Attributes:
        network: the backbone.
        contrastive: the contrastive term.
        restoration: the restoration term.
        optimizer: the optimiser.
        schedule: the learning-rate schedule.
        init: a run folder or checkpoint whose weights this one starts from.
    """

    network: NetworkConfig = field(default_factory=DynUNetConfig, metadata={"registry": NETWORKS})
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    restoration: RestorationConfig = field(default_factory=RestorationConfig)
    optimizer: OptimizerConfig = field(default_factory=AdamWConfig, metadata={"registry": OPTIMIZERS})
    schedule: ScheduleConfig = field(default_factory=PolyConfig, metadata={"registry": SCHEDULES})
    init: str | None = field(default=None, metadata={"path": True})


@dataclass(frozen=True)
class Preprocessing:
    """What images have gone through before they reach the network; all of it from the source site alone.

    Attributes:
        spacing: training spacing in mm along D, H, W.
        window: HU that became 0 and 1.
        patch_size: D, H, W of a training patch in voxels, the window that slides in inference.
    """

    spacing: tuple[float, float, float]
    window: tuple[float, float]
    patch_size: tuple[int, int, int]
