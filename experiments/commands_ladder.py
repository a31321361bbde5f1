"""``pansite ladder``: the words of its command line; what it needs is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datamodules.errors import UsageError
from experiments.command_line import count_of, names, with_evaluation_keys


def add_ladder(commands: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command.

    Args:
        commands: of argparse, to add to.
        command: makes one.
    """
    parser = command(commands, "ladder", "runs along one factor at a time: which one costs what", _ladder)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, or one that holds runs")
    parser.add_argument("--on", metavar="SITE", help="simulate on a site's images; `source`: the source's test cases")
    parser.add_argument(
        "--cases", metavar="N", type=count_of("--cases"), help="phantoms (8), or so many of the site's cases (all)"
    )
    parser.add_argument("--levels", metavar="X,X,…", type=_levels, help="of each factor; 0,0.25,0.5,0.75,1 by default")
    parser.add_argument("--factors", metavar="F,F,…", type=names, default=(), help="these factors alone")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where tables and page go; else into the run")


def _ladder(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from experiments.ladder.ladder import Options, ladder
    from experiments.ladder.plan import LEVELS

    output = None if parsed.output is None else parsed.output.expanduser()
    options = Options(parsed.on, parsed.cases, parsed.levels or LEVELS, parsed.factors, output)
    return ladder(parsed.runs, with_evaluation_keys(overrides), options)


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--levels: write numbers from 0 to 1 with commas, such as 0,0.5,1, not {text!r}.") from error
