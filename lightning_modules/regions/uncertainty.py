"""How uncertain the model is of each voxel."""

from __future__ import annotations

from math import log

from torch import Tensor
from torch.nn import functional as F

from lightning_modules.precision import at_least_float32, no_autocast

LARGEST_MARGIN = 1e3
"""Beyond it the entropy is 0 in any precision; an infinite logit would give infinity × 0."""


def entropy(logits: Tensor) -> Tensor:
    """Binary entropy of the prediction, from the logit margin l: (softplus(−|l|) + |l|·σ(−|l|)) / ln 2.

    p·log p in the probabilities would be NaN where a probability rounds to 0 or 1.

    Args:
        logits: of any shape; detached.

    Returns:
        Same shape, in [0, 1] bit, at least float32, without gradient.
    """
    with no_autocast(logits):
        margin = at_least_float32(logits.detach()).abs().clamp(max=LARGEST_MARGIN)
        return ((F.softplus(-margin) + margin * (-margin).sigmoid()) / log(2)).clamp(max=1)
