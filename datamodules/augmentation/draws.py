"""The random numbers of one appearance of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from datamodules.randomness import numpy_generator, torch_generator


@dataclass(frozen=True)
class Draws:
    """Generators by purpose: equal in any batch, on any rank, before and after a kill.

    Attributes:
        seed: of the run.
        epoch: of the sample.
        index: of the sample.
        view: which of its appearances.
    """

    seed: int
    epoch: int
    index: int
    view: int = 0

    def numbers(self, purpose: str) -> np.random.Generator:
        """For numbers."""
        return numpy_generator(self.seed, self.epoch, self.index, self._named(purpose))

    def tensors(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """For tensors on a device; kernels are drawn on the CPU, so that they are the same everywhere."""
        return torch_generator(self.seed, self.epoch, self.index, self._named(purpose), device=device)

    def _named(self, purpose: str) -> str:
        return purpose if self.view == 0 else f"{purpose}, view {self.view}"
