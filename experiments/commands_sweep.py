"""``pansite sweep``: the words of its command line; what it needs is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.command_line import count_of


def add_sweep(commands: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command.

    Args:
        commands: of argparse, to add to.
        command: makes one.
    """
    parser = command(commands, "sweep", "search settings by source validation, with a file as W&B's sweeps use", _sweep)
    parser.add_argument("sweep", metavar="FILE", help="a sweep's file, the name of a shipped one, or a sweep's folder")
    parser.add_argument("--jobs", metavar="N", type=count_of("--jobs"), default=1, help="trials side by side")
    parser.add_argument("--trials", metavar="N", type=count_of("--trials"), help="most trials of all; else run_cap")
    parser.add_argument("--show", action="store_true", help="show the trials and write the page, train nothing")
    parser.add_argument("--repair", action="store_true", help="only finish trials whose process has died")
    parser.add_argument("--allow-peeking", action="store_true", help="allow for a metric of held-out sites")
    parser.add_argument("--next", action="store_true", help=argparse.SUPPRESS)


def _sweep(parsed: argparse.Namespace, overrides: list[str]) -> int:
    if parsed.next:
        from experiments.sweep.search import take

        return take(Path(parsed.sweep), parsed.trials)
    if parsed.show:
        from experiments.sweep.show import show

        return show(parsed.sweep, overrides)
    from experiments.sweep.search import sweep

    return sweep(parsed.sweep, overrides, parsed.jobs, parsed.trials, parsed.repair, parsed.allow_peeking)
