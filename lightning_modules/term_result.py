"""What every term of the loss answers with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class TermResult(NamedTuple):
    """What a term says of a batch."""

    loss: Tensor
    """Scalar, not yet weighted; its mean over the ranks is the loss of the global batch."""
    log: dict[str, Tensor]
    """Further scalars to be recorded, by name."""
    watch: Callable[[], dict[str, Tensor]] = dict
    """Gives more of them, at a cost that is only spent where they are recorded; a collective."""
