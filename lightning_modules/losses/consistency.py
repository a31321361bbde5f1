"""How far the predictions of two views of the same patches are apart. B sample, D H W voxels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.precision import at_least_float32, no_autocast


def consistency_loss(one: Tensor, other: Tensor, measure: Literal["kl", "js", "mse"]) -> Tensor:
    """The mean over voxels, then over samples; 0 where the views agree, and the same whichever comes first.

    Args:
        one: logits B×1×D×H×W.
        other: logits B×1×D×H×W.
        measure: ``kl``, half of KL(p‖q) + KL(q‖p); ``js``, half of KL(p‖m) + KL(q‖m) with m = (p + q)/2; ``mse``,
            (p − q)².
    """
    with no_autocast(one):
        one, other = at_least_float32(one).flatten(1), at_least_float32(other).flatten(1)
        if measure == "mse":
            apart = (one.sigmoid() - other.sigmoid()).square()
        elif measure == "kl":
            # The two divergences of Bernoulli distributions add up to this.
            apart = (one.sigmoid() - other.sigmoid()) * (one - other) / 2
        else:
            apart = (_from_mean(one, other) + _from_mean(-one, -other)) / 2
        return apart.mean(1).mean()


def _from_mean(one: Tensor, other: Tensor) -> Tensor:
    """``p·log(p/m) + q·log(q/m)`` of one of the two outcomes."""
    log_p, log_q = F.logsigmoid(one), F.logsigmoid(other)
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    return one.sigmoid() * (log_p - log_mean) + other.sigmoid() * (log_q - log_mean)
