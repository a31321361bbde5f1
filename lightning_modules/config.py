"""The ``model:`` section of an experiment: network, the three losses, optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from datamodules.registry import Registry
from lightning_modules.networks.config import NETWORKS, DynUNetConfig, NetworkConfig
from lightning_modules.regions.choices.config import REGIONS, EntropyBandConfig, RegionConfig
from lightning_modules.rivals_config import (
    FEATURES,
    ConsistencyConfig,
    FeaturesConfig,
    NoFeaturesConfig,
    SkeletonConfig,
)

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
class SegmentationConfig:
    """The segmentation term; weight 0: not built.

    Attributes:
        weight: of L_seg, from the first step to the last. At 0 the network is pretrained by contrast and restoration
            alone, on the source, and can't segment; another run takes up its weights by ``model.init``.
    """

    weight: float = 1.0


@dataclass
class ContrastiveConfig:
    """The contrastive term guided by the pancreas' spatial structure; weight 0: not built, no cost.

    Attributes:
        weight: λc at full ramp.
        temperature: τ.
        stride: stride of the decoder features that are contrasted; from cells (stride × spacing) of 6 mm on, the
            organ holds little core, from 12 mm on none.
        dimension: size of the projected embedding.
        views: contrast features of the clean pass alone, or of the corrupted pass too; images are corrupted for it as
            ``restoration`` says, even where that has no weight.
        gather: where negatives and positives of other ranks come from.
        slots: samples drawn per image from each positive parcel, and from near, mid and far ring.
        form: who anchors. ``asymmetric``: the pancreas alone. ``symmetric``: the background too.
            ``cohesion_separation``: the pancreas, the two halves of the loss explicit and recorded each.
        cohesion: weight of pulling the pancreas together, in the form ``cohesion_separation``.
        separation: weight of pushing the background from it, in the form ``cohesion_separation``.
        structure: what cuts the pancreas into parcels: thirds of the ``axis``, ``shells`` (core and rim), ``both`` or
            ``none``. A merged parcel gets the slots of all that it is made of.
        rings: three around the pancreas, or all background as one with the slots of the three.
        sampling: how slots are drawn: ``uniform``, by uncertainty (``uncertain``), or half and half (``mixed``).
        ramp: share of training in which λc rises linearly to its full weight.
        fade: share of training at which λc begins to fall linearly, to 0 at the end; 1 for never.
    """

    weight: float = 0.1
    temperature: float = 0.1
    stride: int = 2
    dimension: int = 128
    views: Literal["both", "clean"] = "both"
    gather: Literal["grad", "detached", "none"] = "grad"
    slots: tuple[int, int, int, int] = (16, 96, 64, 32)
    form: Literal["asymmetric", "symmetric", "cohesion_separation"] = "asymmetric"
    cohesion: float = 1.0
    separation: float = 1.0
    structure: Literal["both", "axis", "shells", "none"] = "both"
    rings: Literal["three", "one"] = "three"
    sampling: Literal["mixed", "uniform", "uncertain"] = "mixed"
    ramp: float = 0.1
    fade: float = 1.0


@dataclass
class CorruptionConfig:
    """How appearance is corrupted, cell by cell.

    Attributes:
        cells: edge lengths of the cells in mm; one is drawn per sample.
        eligible: a cell may be corrupted where at least this part of it lies in M.
        probability: with which an eligible cell is corrupted.
        decoys: probability of corrupting a cell outside M.
        ramp: share of training in which both probabilities rise linearly to these values.
        alike: probability that all remapped cells of a sample get one curve, as if what lies in them had been scanned
            in another contrast phase; otherwise each gets its own.
        operators: relative weight of each operator.
    """

    cells: tuple[float, ...] = (6.0, 9.0, 12.0)
    eligible: float = 0.3
    probability: float = 0.5
    decoys: float = 0.05
    ramp: float = 0.0
    alike: float = 0.0
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
    """The restoration of corrupted appearance where the model is uncertain; weight 0: nothing is restored, at no cost.

    Attributes:
        weight: λr at full ramp.
        passes: ``two``: the batch as it is, then corrupted. ``one``: about every second sample corrupted, by its own
            key, the others as they are; that costs little more than segmentation alone, M then can't depend on a
            prediction, and what a sample of the other half has nothing to say to counts 0 in the mean over the batch.
        decoder: restore by a decoder of its own (``thin``), or from the segmentation decoder's features (``shared``).
        channels: width of the thin decoder.
        skip: give the thin decoder the encoder's features at stride 1, from where the image can be copied.
        detach_encoder: control: restoration trains its own decoder (of the shared one the head) and nothing else.
        beta: β of the smooth L1.
        rest: weight of the error outside the corrupted cells.
        ssim: weight of 1 − SSIM of the whole patch, added to the smooth L1; 0 for none.
        segment_corrupted: segment the corrupted image too; in one pass, the corrupted samples.
        cross_entropy: above 0, the corrupted image is segmented by cross-entropy alone, times this; at 0 by the loss of
            the image as it is. Where appearance is gone the soft Dice gains by calling pancreas whatever may be it.
        ramp: share of training in which λr rises linearly to its full weight.
        fade: share of training at which λr begins to fall linearly, to 0 at the end; 1 for never.
        region: the region M.
        corruption: what is done to the appearance there.
    """

    weight: float = 1.0
    passes: Literal["two", "one"] = "two"
    decoder: Literal["thin", "shared"] = "thin"
    channels: int = 16
    skip: bool = False
    detach_encoder: bool = False
    beta: float = 0.05
    rest: float = 0.1
    ssim: float = 0.0
    segment_corrupted: bool = True
    cross_entropy: float = 0.0
    ramp: float = 0.1
    fade: float = 1.0
    region: RegionConfig = field(default_factory=EntropyBandConfig, metadata={"registry": REGIONS})
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)


@dataclass
class ModelConfig:
    """Network, losses and optimiser.

    Attributes:
        network: the backbone.
        segmentation: the segmentation term.
        contrastive: the contrastive term.
        restoration: the restoration term.
        consistency: a rival's term: the agreement of two views.
        skeleton: a rival's term: the contrast of the pancreas' skeleton.
        fusion: a rival's second view: as it is, or fused with the first where that is not salient.
        features: what a rival does to the encoder's features in training.
        optimizer: the optimiser.
        schedule: the learning-rate schedule.
        init: whose network's weights this run starts from: a run's folder, the folder above where it holds one run, or
            a checkpoint. Of a run the best checkpoint is taken, else the last.
    """

    network: NetworkConfig = field(default_factory=DynUNetConfig, metadata={"registry": NETWORKS})
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    restoration: RestorationConfig = field(default_factory=RestorationConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    skeleton: SkeletonConfig = field(default_factory=SkeletonConfig)
    fusion: Literal["none", "saliency"] = "none"
    features: FeaturesConfig = field(default_factory=NoFeaturesConfig, metadata={"registry": FEATURES})
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
