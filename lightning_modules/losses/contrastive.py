"""The contrastive loss between the two sides, pancreas and its surroundings, on samples that are already drawn.

A anchors, S samples of the anchors' side, N samples of the other side, E length of an embedding. Written from this
project's own formula; it grew out of the supervised contrastive loss of Khosla et al. (2020).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Samples(NamedTuple):
    """Embedded cells of one side, pancreas or background."""

    embedding: Tensor
    """Float S×E, unit vectors in at least float32."""
    group: Tensor
    """S, equal where image, view and region are; negative where the sample is not valid."""
    uncertainty: Tensor
    """Float S in [0, 1], no gradient."""

    @property
    def valid(self) -> Tensor:
        """bool S."""
        return self.group >= 0


class AnchorSum(NamedTuple):
    """A loss before it is divided by the number of anchors of the global batch."""

    total: Tensor
    """Scalar, attached to the graph even if there is no anchor."""
    anchors: Tensor
    """Scalar, the number of anchors."""


def contrastive_sum(anchors: Samples, same: Samples, other: Samples, temperature: float, first: int = 0) -> AnchorSum:
    """Sum over the anchors i of ``mean_{p∈P(i)} [logaddexp(s_ip, logsumexp_n(s_in + log w_n)) − s_ip]``.

    ``s = z·z/τ``. P(i) are samples of the same side from other regions, other images or another view; where there is
    none, any other sample of that side. ``w_n = 1 + U_n``, normalised to mean 1 over the samples of the other side. An
    anchor needs a positive and a negative. No A×S×N tensor is made: the sum over n is shared by all p.

    Args:
        anchors: the samples of one side that this rank has.
        same: all samples of that side; ``anchors`` are among them, from position ``first`` on.
        other: all samples of the other side.
        temperature: τ.
        first: position of the first anchor in ``same``.
    """
    with torch.autocast(anchors.embedding.device.type, enabled=False):
        positive = positives(anchors, same, first)
        anchor = anchors.valid & positive.any(1) & other.valid.any()
        scaled = anchors.embedding / temperature
        pulled = scaled @ same.embedding.T
        pushed = (scaled @ other.embedding.T + log_weights(other)).logsumexp(1, keepdim=True)
        # logaddexp(s, b) − s = −log sigmoid(s − b), which neither overflows nor cancels.
        terms = -F.logsigmoid(pulled - pushed) * positive
        means = terms.sum(1) / positive.sum(1).clamp(min=1)
        return AnchorSum(torch.where(anchor, means, 0).sum(), anchor.sum())


def positives(anchors: Samples, same: Samples, first: int) -> Tensor:
    """bool A×S: the positives of each anchor, as :func:`contrastive_sum` has them."""
    other = (anchors.group[:, None] != same.group) & same.valid
    position = torch.arange(len(same.group), device=other.device)
    itself = position[first : first + len(anchors.group), None] == position
    return torch.where(other.any(1, keepdim=True), other, same.valid & ~itself)


def log_weights(negatives: Samples) -> Tensor:
    """N: ``log w_n``, so low that it counts nothing where n is not valid."""
    dtype = negatives.embedding.dtype
    weight = (1 + negatives.uncertainty.detach().to(dtype)) * negatives.valid
    weight = weight / (weight.sum() / negatives.valid.sum().clamp(min=1)).clamp(min=1)
    # Not −inf: the gradient of logsumexp over nothing but −inf is NaN.
    return torch.where(negatives.valid, weight, 1).log().masked_fill(~negatives.valid, torch.finfo(dtype).min / 2)
