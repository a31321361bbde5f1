"""What a module says of its training and validation, the same on every rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor


class StepRecord:
    """Scalars of one optimiser step, averaged over the batches that are accumulated for it and over the ranks."""

    def __init__(self) -> None:
        self._step = -1
        self._count = 0
        self._sum: dict[str, Tensor] = {}

    def add(
        self, step: int, values: Mapping[str, Tensor], mean_over_ranks: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Add a batch's scalars (all ranks, the same names) and give the means of this step so far."""
        if step != self._step:
            self._step, self._count, self._sum = step, 0, {}
        joined = torch.stack([value.detach().float() for value in values.values()])
        reduced = mean_over_ranks(joined)
        self._count += 1
        self._sum = {name: self._sum.get(name, 0) + value for name, value in zip(values, reduced.unbind(), strict=True)}
        return {name: value / self._count for name, value in self._sum.items()}


def dice(prediction: Tensor, label: Tensor) -> float:
    """2|P∩R| / (|P|+|R|) of two masks; 1 where both are empty."""
    p, r = prediction > 0, label > 0
    both = int(p.sum() + r.sum())
    return 2 * int((p & r).sum()) / both if both else 1.0


def mean_over_cases(rows: Mapping[str, float]) -> float:
    """Mean over the cases of all ranks, each counted once however many ranks saw it; NaN without any.

    A collective: a padded or uneven share of cases per rank does not weigh in, as it would with Lightning's own
    reduction.
    """
    parts: list[Mapping[str, float]] = [rows]
    if dist.is_available() and dist.is_initialized():
        gathered: list[Mapping[str, float] | None] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, dict(rows))
        parts = [part for part in gathered if part is not None]
    # Of a case that a rank has only repeated, the first rank's word counts.
    joined = {case: value for part in reversed(parts) for case, value in part.items()}
    return sum(joined[case] for case in sorted(joined)) / len(joined) if joined else float("nan")
