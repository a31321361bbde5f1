"""MixStyle and DSU: the encoder learns from features whose style, mean and spread of each channel, is another one.

Both stand behind early stages of the encoder, in training alone; they have no weights. Ours: in 3-D; behind the last
activation of a stage of a U-Net, in the skip connections too. There the InstanceNorm of the backbones has already
taken most of a sample's style away, so both have less to work on than in the papers' networks with BatchNorm.

Both look at the batch that a rank holds at once, as published: with another number of ranks or of accumulated batches
they mix and measure within other batches. Draws are keyed by the batch's first sample, never by a global state.

B sample, C channels, D H W voxels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from datamodules.randomness import numpy_generator, torch_generator
from lightning_modules.precision import at_least_float32, no_autocast
from lightning_modules.rivals_config import DSUConfig, MixStyleConfig, NoFeaturesConfig, StatisticsConfig

Key = tuple[int | str, ...]

EPSILON = 1e-6
"""Added to a variance that is divided by."""


class FeatureStatistics(ABC):
    """Perturbs an encoder's features, within :meth:`of` and where a gradient is wanted.

    Args:
        config: of the perturbation.
        seed: of the run.
    """

    def __init__(self, config: StatisticsConfig, seed: int) -> None:
        self.strides = config.strides
        self.probability = config.probability
        self.seed = seed
        self._key: tuple[int, int] | None = None
        self._passes = 0

    @contextmanager
    def of(self, key: Tensor) -> Iterator[None]:
        """Perturb what is encoded in this block; each pass of the batch draws for itself.

        Args:
            key: int64 B×2, (epoch, index) of each sample of the batch.
        """
        epoch, index = key[0].tolist()
        self._key, self._passes = (epoch, index), 0
        try:
            yield
        finally:
            self._key = None

    def __call__(self, stride: int, features: Tensor) -> Tensor:
        """B×C×D×H×W of a stage, perturbed or as they are."""
        if self._key is None or not torch.is_grad_enabled():
            return features
        self._passes += stride == 1
        if stride not in self.strides:
            return features
        key = (self.seed, *self._key, f"features at stride {stride}, pass {self._passes}")
        if numpy_generator(*key).random() >= self.probability:
            return features
        with no_autocast(features):
            return self.perturb(at_least_float32(features), key).to(features.dtype)

    @abstractmethod
    def perturb(self, features: Tensor, key: Key) -> Tensor:
        """What stands for B×C×D×H×W; draws are keyed by ``key`` and a purpose."""


class MixStyle(FeatureStatistics):
    """``(x − μ)/σ · σ' + μ'``, where σ' and μ' are λ parts a sample's own and 1 − λ parts a partner's.

    λ ~ Beta(α, α) for each sample, partners by a random permutation, no gradient through the statistics.

    Args:
        config: of the perturbation.
        seed: of the run.
    """

    purpose = "mixstyle"

    def __init__(self, config: MixStyleConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.alpha = config.alpha

    def perturb(self, features: Tensor, key: Key) -> Tensor:
        """Draw partners and shares, and mix."""
        numbers, count = numpy_generator(*key, self.purpose), len(features)
        partner = torch.from_numpy(numbers.permutation(count)).to(features.device)
        share = torch.from_numpy(numbers.beta(self.alpha, self.alpha, count)).to(features)
        return mix_style(features, share, partner)


class DSU(FeatureStatistics):
    """``(x − μ)/σ · σ' + μ'``, where σ' and μ' are Gaussian about a sample's own.

    Their standard deviations are those of σ and μ over the batch, channel by channel; these have no gradient (ours:
    where they are 0 they have none).

    Args:
        config: of the perturbation.
        seed: of the run.
    """

    purpose = "dsu"

    def __init__(self, config: DSUConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.factor = config.factor

    def perturb(self, features: Tensor, key: Key) -> Tensor:
        """Draw a mean and a spread for each channel of each sample."""
        generator = torch_generator(*key, self.purpose)
        noise = torch.randn(2, *features.shape[:2], 1, 1, 1, generator=generator).to(features)
        return uncertain_style(features, *(self.factor * noise))


def mix_style(features: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    """Give each sample the statistics ``share``·own + (1 − ``share``)·partner's.

    Args:
        features: B×C×D×H×W.
        share: B, in [0, 1].
        partner: int64 B.
    """
    mean, spread = (values.detach() for values in style(features))
    own = share.view(-1, 1, 1, 1, 1)
    new_mean = own * mean + (1 - own) * mean[partner]
    new_spread = own * spread + (1 - own) * spread[partner]
    return (features - mean) * (new_spread / spread) + new_mean


def uncertain_style(features: Tensor, mean_noise: Tensor, spread_noise: Tensor) -> Tensor:
    """Move each channel's mean and spread by a noise, in units of their standard deviation over the batch.

    Args:
        features: B×C×D×H×W.
        mean_noise: B×C×1×1×1.
        spread_noise: B×C×1×1×1.
    """
    mean, spread = style(features)
    new_mean = mean + mean_noise * mean.detach().std(0, keepdim=True)
    new_spread = spread + spread_noise * spread.detach().std(0, keepdim=True)
    return (features - mean) * (new_spread / spread) + new_mean


def style(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, B×C×1×1×1."""
    variance, mean = torch.var_mean(features, (2, 3, 4), keepdim=True)
    return mean, (variance + EPSILON).sqrt()


def nothing(config: NoFeaturesConfig, seed: int) -> None:
    """No perturbation."""
