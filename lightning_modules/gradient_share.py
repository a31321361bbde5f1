"""How strongly each term of the loss pulls at the weights they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter


def gradient_norms(
    losses: Mapping[str, Tensor],
    parameters: Sequence[Parameter],
    mean_over_ranks: Callable[[Tensor], Tensor],
    scale: float = 1.0,
) -> dict[str, Tensor]:
    """L2 norm of each loss's gradient to the parameters; what :meth:`Tensor.backward` finds later is not altered.

    Where a loss holds a collective in its backward pass, all ranks must call this at the same steps.

    Args:
        losses: scalars with a graph, which is kept.
        parameters: the shared weights.
        mean_over_ranks: reduces a rank's gradient to the whole batch's.
        scale: by which losses are multiplied on the way, so that no gradient underflows in half precision.

    Returns:
        Scalars in float32 by the names of the losses.
    """
    norms = {}
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss * scale, parameters, retain_graph=True, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
        joined = torch.cat([g.flatten().float() for g in flat])
        norms[name] = mean_over_ranks(joined).norm() / scale
    return norms
