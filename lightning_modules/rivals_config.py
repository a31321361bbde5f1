"""What the rivals that are no augmentations can be told: two terms of the loss, and what is done to features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datamodules.registry import Registry

FEATURES = Registry("perturbation of features")


@dataclass
class ConsistencyConfig:
    """The agreement of the predictions of a patch's two views (``data.augmentation.views: 2``); weight 0: not built.

    Attributes:
        weight: at full ramp.
        measure: what keeps the two Bernoulli distributions of a voxel together: ``kl``, the mean of both
            Kullback-Leibler divergences; ``js``, their divergence from their mean; ``mse``, of the probabilities.
        ramp: share of training in which the weight rises linearly.
    """

    weight: float = 0.0
    measure: Literal["kl", "js", "mse"] = "kl"
    ramp: float = 0.1


@dataclass
class SkeletonConfig:
    """The contrast of the pancreas' skeleton with the background, in coarse features; weight 0: not built.

    Attributes:
        weight: at full ramp.
        stride: of the encoder's features that are contrasted.
        temperature: of NT-Xent.
        dimension: size of the projected embedding.
        slots: cells drawn per image of the skeleton, and of the background.
        gather: where samples of other ranks come from, as in ``model.contrastive.gather``.
        ramp: share of training in which the weight rises linearly.
    """

    weight: float = 0.0
    stride: int = 8
    temperature: float = 0.1
    dimension: int = 128
    slots: tuple[int, int] = (32, 64)
    gather: Literal["grad", "detached", "none"] = "grad"
    ramp: float = 0.1


@dataclass
class FeaturesConfig:
    """What every perturbation of features has.

    Attributes:
        name: the perturbation.
    """

    name: str


@FEATURES.register("none", target="lightning_modules.networks.statistics:nothing")
@dataclass
class NoFeaturesConfig(FeaturesConfig):
    """Features stay as they are."""

    name: str = "none"


@dataclass
class StatisticsConfig(FeaturesConfig):
    """What both perturbations of feature statistics have.

    Attributes:
        strides: after which stages of the encoder.
        probability: with which a stage's features are perturbed in a pass.
    """

    name: str
    strides: tuple[int, ...] = (1, 2)
    probability: float = 0.5


@FEATURES.register("mixstyle", target="lightning_modules.networks.statistics:MixStyle")
@dataclass
class MixStyleConfig(StatisticsConfig):
    """MixStyle (Zhou et al., ICLR 2021): mean and spread of a channel are mixed with those of another sample.

    Attributes:
        alpha: of the Beta distribution of the mixture's weight.
    """

    name: str = "mixstyle"
    alpha: float = 0.1


@FEATURES.register("dsu", target="lightning_modules.networks.statistics:DSU")
@dataclass
class DSUConfig(StatisticsConfig):
    """DSU (Li et al., ICLR 2022): mean and spread of a channel are drawn from Gaussians as wide as the batch's.

    Attributes:
        factor: on the width.
    """

    name: str = "dsu"
    strides: tuple[int, ...] = (1, 2, 4)
    factor: float = 1.0
