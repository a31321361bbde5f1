"""How far training is, and how the weights of the terms grow with it."""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """Where a training run stands."""

    step: int
    """Optimiser steps done."""
    total: int
    """Optimiser steps of the whole run."""

    def ramp(self, share: float) -> float:
        """Rises linearly from the first step, where it is above 0 already, to 1 at ``share`` of training.

        A flat zero phase would leave parameters without a gradient, which DDP does not bear.
        """
        return self._along(self.step + 1, share)

    def passed(self, share: float) -> float:
        """Rises linearly from 0 at the first step to 1 at ``share`` of training."""
        return self._along(self.step, share)

    def _along(self, step: int, share: float) -> float:
        length = share * self.total
        return min(1.0, step / length) if length > 0 else 1.0
