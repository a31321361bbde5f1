"""M by a mean teacher: a second network whose weights follow the first one's slowly."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from lightning_modules.networks.backbone import Backbone
from lightning_modules.regions.choices.choice import Choice, Sight
from lightning_modules.regions.choices.config import EmaTeacherConfig
from lightning_modules.regions.uncertainty import entropy


class EmaTeacher(Choice):
    """S = the entropy of the teacher's prediction of the patches as they are (Tarvainen & Valpola, 2017).

    The teacher's weights are part of the module's state, so that a resumed run has the same teacher; they take no
    gradient, and so neither an optimiser nor DDP's reducer knows them.
    """

    def __init__(self, config: EmaTeacherConfig, network: Backbone, seed: int) -> None:
        super().__init__(config, network, seed)
        self.decay = config.decay
        self.teacher = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def score(self, sight: Sight) -> Tensor:
        """The entropy, in bit."""
        self.teacher.eval()
        return entropy(self.teacher(sight.batch.image).logits)

    def start(self, network: Backbone) -> None:
        """Begin as a copy: the network may have got other weights since it was built (``model.init``)."""
        self.teacher.load_state_dict(network.state_dict())

    @torch.no_grad()
    def follow(self, network: Backbone) -> None:
        """weights ← decay · weights + (1 − decay) · the network's."""
        for own, other in zip(self.teacher.parameters(), network.parameters(), strict=True):
            own.lerp_(other, 1 - self.decay)
