"""The forms of the contrastive loss: who is an anchor, and how pulling together and pushing apart are joined.

A anchors, S samples of a side. Each form is a function of the two sides; it gives sums over the anchors of this rank,
which divided by the anchors of all ranks make the mean over the global batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.config import ContrastiveConfig
from lightning_modules.losses.contrastive import AnchorSum, Samples, contrastive_sum, log_weights, positives


class Side(NamedTuple):
    """Pancreas or background."""

    own: Samples
    """The samples of this rank."""
    everyone: Samples
    """Those of all ranks, ``own`` among them."""
    first: int
    """Position of the first of ``own`` in ``everyone``."""


class FormSum(NamedTuple):
    """What a form says of the samples of this rank; all of it to be divided by the anchors of the global batch."""

    total: Tensor
    """Scalar, attached to the graph even if there is no anchor."""
    anchors: Tensor
    """Scalar, the number of anchors."""
    parts: dict[str, Tensor]
    """Scalars to be recorded, before their weights, by name."""


def asymmetric(pancreas: Side, background: Side, config: ContrastiveConfig) -> FormSum:
    """Only the pancreas anchors: what surrounds it is pushed away from it and may be as varied as it is.

    Pulling the background together too would merge duodenum, vessel and fat.
    """
    return FormSum(*_against(pancreas, background, config), {})


def symmetric(pancreas: Side, background: Side, config: ContrastiveConfig) -> FormSum:
    """Both sides anchor, by the same formula: each sample is pulled to its own side and pushed from the other."""
    inside, outside = _against(pancreas, background, config), _against(background, pancreas, config)
    return FormSum(inside.total + outside.total, inside.anchors + outside.anchors, {})


def cohesion_separation(pancreas: Side, background: Side, config: ContrastiveConfig) -> FormSum:
    """The two halves of the asymmetric form, each with a weight of its own and a value that is recorded.

    ``cohesion_i = mean_{p∈P(i)} (1 − z_i·z_p)/τ`` and ``separation_i = log mean_{n∈N} w_n exp((1 + z_i·z_n)/τ)``, for
    the anchors, positives and weights of :func:`~lightning_modules.losses.contrastive.contrastive_sum`. Both are 0
    at best: where pancreas is one point, and where all background lies opposite.

    Between unit vectors ``(1 − z·z')/τ = |z − z'|²/2τ``: cohesion is the alignment of Wang & Isola (2020) with
    exponent 2, and separation, but for the constant 2/τ, the logarithm of their Gaussian potential with t = 1/2τ,
    here between the sides (not within one, where it would be uniformity). With weights of 1 the sum of both is InfoNCE
    with the positive left out of its denominator, but for the constant log|N| − 2/τ (decoupled contrastive learning,
    Yeh et al. 2022).
    """
    anchors, same, other = pancreas.own, pancreas.everyone, background.everyone
    with torch.autocast(anchors.embedding.device.type, enabled=False):
        positive = positives(anchors, same, pancreas.first)
        anchor = anchors.valid & positive.any(1) & other.valid.any()
        apart = (1 - anchors.embedding @ same.embedding.T) / config.temperature * positive
        near = (1 + anchors.embedding @ other.embedding.T) / config.temperature + log_weights(other)
        cohesion = apart.sum(1) / positive.sum(1).clamp(min=1)
        separation = near.logsumexp(1) - other.valid.sum().clamp(min=1).to(near.dtype).log()
        parts = {
            "cohesion": torch.where(anchor, cohesion, 0).sum(),
            "separation": torch.where(anchor, separation, 0).sum(),
        }
        total = config.cohesion * parts["cohesion"] + config.separation * parts["separation"]
        return FormSum(total, anchor.sum(), parts)


FORMS: dict[str, Callable[[Side, Side, ContrastiveConfig], FormSum]] = {
    "asymmetric": asymmetric,
    "symmetric": symmetric,
    "cohesion_separation": cohesion_separation,
}
"""By the name that ``model.contrastive.form`` gives."""


def _against(side: Side, other: Side, config: ContrastiveConfig) -> AnchorSum:
    return contrastive_sum(side.own, side.everyone, other.everyone, config.temperature, side.first)
