"""The trial that this process is training, as the training itself knows of it: nothing but a judge of validations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from callbacks.requests import Request, Stopped

if TYPE_CHECKING:
    from callbacks.early_end import Judge


class Pruned(Stopped):
    """A trial has been ended at a validation, because others do better; its checkpoint is saved.

    Args:
        step: finished optimiser steps.
    """

    def __init__(self, step: int) -> None:
        super().__init__(Request.TERMINATE, step=step, agreed=True)


@dataclass(frozen=True)
class Watch:
    """Who watches the training.

    Attributes:
        judge: says after a validation whether the trial is to end; of ranks but the first it is not asked.
        begun: is told the run's folder.
    """

    judge: Judge
    begun: Callable[[Path], None]


_current: Watch | None = None


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Let what is trained within this block be watched."""
    global _current
    before, _current = _current, watch
    try:
        yield
    finally:
        _current = before


def current() -> Watch | None:
    """Who watches; None where what is trained is no trial of a sweep."""
    return _current
