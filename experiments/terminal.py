"""Where a command prints its tables."""

from __future__ import annotations

from rich.console import Console


def terminal() -> Console:
    """The terminal; through a pipe there is no width to keep to, and no path or sentence is cut."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=1000)
