"""What a sweep's table and its page say in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BEST = "best.yaml"
PEEKED = (
    "Selection saw the test sites: trials were compared by {metric}. What the best one scores there does not tell how "
    "it does on sites that it has never seen."
)


def short_names(keys: Sequence[str]) -> list[str]:
    """Keys without their beginnings, as far as they stay different."""
    names = [key.split(".") for key in keys]
    for length in (1, 2, 3):
        shortened = [".".join(name[-length:]) for name in names]
        if len(set(shortened)) == len(shortened):
            return shortened
    return list(keys)


def said(value: Any) -> str:
    """A value in few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
