"""Numbers and counts as the pages write them."""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(r"(?<![\w.])[−+]?\d+(?:\.\d+)?")
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def number(value: float | None, digits: int = 3) -> str:
    """``value`` with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def count(n: int, thing: str) -> str:
    """``two cases``, ``one case``, ``40 cases``."""
    word = _COUNTS[n] if n < len(_COUNTS) else str(n)
    return f"{word} {thing}{'' if n == 1 else 's'}"


def sortable(value: float | None) -> str:
    """What a column is sorted by: the full number, nothing where there is none."""
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def leading(text: str) -> str:
    """The first number in a cell of text, which its column is sorted by; nothing where there is none."""
    if text == "< 0.001":
        return "0"
    found = _NUMBER.search(text)
    return found.group().replace("−", "-").removeprefix("+") if found else ""
