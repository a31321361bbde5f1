"""M by Monte-Carlo dropout: how uncertain the mean of several predictions is that each lack some channels.

Whole channels of the encoder's features are dropped, so that any backbone will do and the encoder runs only once.

B sample, C channels, D H W voxels, T decodes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.randomness import torch_generator
from lightning_modules.networks.backbone import Backbone
from lightning_modules.precision import at_least_float32, no_autocast
from lightning_modules.regions.choices.choice import Choice, Sight
from lightning_modules.regions.choices.config import McDropoutConfig
from lightning_modules.regions.uncertainty import entropy


class McDropout(Choice):
    """S = the entropy of the mean of T predictions (Gal & Ghahramani, 2016)."""

    def __init__(self, config: McDropoutConfig, network: Backbone, seed: int) -> None:
        super().__init__(config, network, seed)
        self.samples = config.samples
        self.rate = config.rate

    @torch.no_grad()
    def score(self, sight: Sight) -> Tensor:
        """The entropy, in bit."""
        encoder = sight.clean.clean.encoder
        factors = channel_factors(
            {stride: features.shape[1] for stride, features in encoder.items()},
            self.samples,
            self.rate,
            sight.batch.key,
            self.seed,
        )
        logits = []
        for decode in range(self.samples):
            lacking = {stride: values * factors[stride][decode].to(values) for stride, values in encoder.items()}
            logits.append(at_least_float32(sight.network.decode(lacking).logits))
        margins = torch.stack(logits)
        with no_autocast(margins):
            # Both means, not one and its rest from 1: where a probability rounds to 1 the other is still known.
            return entropy(margins.sigmoid().mean(0).log() - (-margins).sigmoid().mean(0).log())


def channel_factors(channels: dict[int, int], samples: int, rate: float, key: Tensor, seed: int) -> dict[int, Tensor]:
    """What the channels are multiplied with: 0, or 1/(1 − rate) with a probability of 1 − rate.

    Args:
        channels: C by stride.
        samples: T.
        rate: in [0, 1).
        key: int64 B×2, (epoch, index) of each sample.
        seed: of the run.

    Returns:
        By stride float32 T×B×C×1×1×1.
    """
    drawn: dict[int, list[Tensor]] = {stride: [] for stride in sorted(channels)}
    for epoch, index in key.tolist():
        generator = torch_generator(seed, epoch, index, "mc dropout")
        for stride, factors in drawn.items():
            factors.append(torch.rand(samples, channels[stride], generator=generator) >= rate)
    return {stride: torch.stack(kept, 1)[..., None, None, None].float() / (1 - rate) for stride, kept in drawn.items()}
