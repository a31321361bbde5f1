"""How far from the source a site lies, as the tables mark it."""

from __future__ import annotations

import math

NOTABLE, GREAT = 2.0, 4.0
"""Shifts, in spreads of the source, from which on a cell is marked."""


def mark(shift: float | None) -> str:
    """The class of a cell by its shift."""
    if shift is None or not math.isfinite(shift) or abs(shift) < NOTABLE:
        return ""
    return "great" if abs(shift) >= GREAT else "notable"
