"""What every choice of M is: scores of the candidates, of which the highest are taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datamodules.batch import PatchBatch
from datamodules.errors import UsageError
from lightning_modules.networks.backbone import Backbone
from lightning_modules.regions.candidates import choose_region
from lightning_modules.regions.choices.config import RegionConfig, ShareConfig
from lightning_modules.views import Views


class Sight(NamedTuple):
    """What M may be chosen by."""

    batch: PatchBatch
    """The patches that get an M."""
    ramp: float
    """How much of the ramp is over, 0 to 1."""
    network: Backbone
    views: Views | None = None
    """The pass of the same patches as they are; None where there is none before the corruption."""

    @property
    def clean(self) -> Views:
        """The pass of the patches as they are.

        Raises:
            AssertionError: a choice that needs a prediction was built where there is none.
        """
        if self.views is None:
            raise AssertionError("this choice of M needs the prediction of a clean pass")
        return self.views


class Choice(nn.Module, ABC):
    """Takes the share of each sample's candidates (d ≤ reach) that score highest.

    Args:
        config: its settings.
        network: the backbone of the module.
        seed: of the run.

    Raises:
        UsageError: a share of nothing, or of more than all.
    """

    def __init__(self, config: RegionConfig, network: Backbone, seed: int) -> None:
        super().__init__()
        self.reach = config.reach
        self.share = config.share if isinstance(config, ShareConfig) else 1.0
        self.seed = seed
        if not 0 < self.share <= 1:
            raise UsageError(f"model.restoration.region.share: {self.share} is not above 0 and at most 1")

    @abstractmethod
    def score(self, sight: Sight) -> Tensor:
        """B×1×D×H×W, without gradient; equal scores are decided by the sample's own random order."""

    @torch.no_grad()
    def forward(self, sight: Sight) -> Tensor:
        """M, bool B×1×D×H×W."""
        batch = sight.batch
        return choose_region(self.score(sight), batch.distance, self.reach, self.share, batch.key, self.seed)

    def start(self, network: Backbone) -> None:
        """Take up the weights that a training starts from; called before its first step."""

    def follow(self, network: Backbone) -> None:
        """Take up what an optimiser step has made of the weights; called after each."""
