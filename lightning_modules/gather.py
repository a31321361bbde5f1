"""Samples of all ranks, with or without a gradient to those of other ranks.

R ranks. Every function is a collective where a process group is up, and costs nothing without one. Shapes
must be equal on all ranks.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import _functional_collectives as collectives

Gather = Literal["grad", "detached", "none"]


def ranks() -> int:
    """R, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process' rank, 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(local: Tensor, mode: Gather) -> Tensor:
    """Rows of all ranks, in the order of the ranks.

    Under ``grad`` the backward pass is a collective too: each rank receives the sum, over all ranks, of the
    gradients to its rows, so every rank must run it, also one whose loss is zero.

    Args:
        local: S×…, the rows of this rank.
        mode: ``grad`` with gradients to all rows, ``detached`` to this rank's alone, ``none`` gathers nothing.

    Returns:
        (R·S)×…, or ``local`` itself with one rank or under ``none``.
    """
    if mode == "none" or ranks() == 1:
        return local
    if mode == "grad":
        return _gather_with_gradient(local.contiguous())
    rows = _all_gather(local.detach().contiguous())
    rows[rank()] = local
    return torch.cat(rows)


def sum_over_ranks(local: Tensor) -> Tensor:
    """Sum of a tensor without gradient over all ranks."""
    total = local.detach().clone()
    if ranks() > 1:
        dist.all_reduce(total)
    return total


def _all_gather(local: Tensor) -> list[Tensor]:
    rows = [torch.empty_like(local) for _ in range(ranks())]
    dist.all_gather(rows, local)
    return rows


class _AllGather(torch.autograd.Function):
    """All-gather whose gradient is summed over the ranks, for a torch without a functional one."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        return torch.cat(_all_gather(local))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # An all_reduce, as not every backend has reduce_scatter.
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(ranks())[rank()]


def _gather_with_gradient(local: Tensor) -> Tensor:
    functional: Any = collectives
    if hasattr(functional, "all_gather_single_autograd"):  # torch ≥ 2.13
        rows: Tensor = functional.wait_tensor(functional.all_gather_single_autograd(local, 0, dist.group.WORLD))
    else:
        rows = _AllGather.apply(local)  # type: ignore[no-untyped-call]  # torch types no Function.apply
    return rows
