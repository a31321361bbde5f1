"""M where the prediction of the clean pass is least certain."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.networks.backbone import Backbone
from lightning_modules.regions.candidates import score
from lightning_modules.regions.choices.choice import Choice, Sight
from lightning_modules.regions.choices.config import EntropyBandConfig


class EntropyBand(Choice):
    """S = U + β(t)·[−2 ≤ d ≤ 3]: early entropy says little and the band leads, later the entropy does."""

    def __init__(self, config: EntropyBandConfig, network: Backbone, seed: int) -> None:
        super().__init__(config, network, seed)
        self.band = config.band

    def score(self, sight: Sight) -> Tensor:
        """The entropy, in bit, plus β in the band."""
        start, end = self.band
        return score(sight.clean.uncertainty, sight.batch.distance, start + (end - start) * sight.ramp)


class Entropy(Choice):
    """S = U."""

    def score(self, sight: Sight) -> Tensor:
        """The entropy, in bit."""
        return sight.clean.uncertainty
