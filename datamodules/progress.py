"""The bar that is shown while work goes on case by case."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def bar(shown: bool = True, transient: bool = False) -> Progress:
    """A bar on stderr: what is done, how much of it, how long it will take; to be entered and given tasks.

    Args:
        shown: else it is silent.
        transient: it leaves nothing behind at its end.
    """
    # A site's name may hold brackets.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=transient, disable=not shown)
