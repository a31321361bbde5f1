"""How far training is, and how the weights of the terms grow and fade with it."""

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

    def fade(self, share: float) -> float:
        """1 until ``share`` of training, then falls linearly, to reach 0 when the last step is done.

        Above 0 as long as steps remain, for the reason that :meth:`ramp` is.
        """
        rest = (1 - share) * self.total
        return min(1.0, (self.total - self.step) / rest) if rest > 0 else 1.0

    def _along(self, step: int, share: float) -> float:
        length = share * self.total
        return min(1.0, step / length) if length > 0 else 1.0
