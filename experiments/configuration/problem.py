"""What a rule finds wrong in an experiment whose keys are each well typed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """What is wrong, and the keys it hangs on; the first is the one to mend."""

    keys: tuple[str, ...]
    sentence: str
