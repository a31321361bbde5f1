"""The words of ``pansite study run|table`` and ``pansite compare``; what they need is imported when they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.command_line import Add, count_of, names


def add_comparisons(commands: Any, add: Add) -> None:
    """Add the commands.

    Args:
        commands: where to.
        add: adds a command by name, description and handler.
    """
    study = commands.add_parser("study", help="methods × seeds × sources × folds, and their table", allow_abbrev=False)
    parts = study.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = add(parts, "run", "compute what is missing of a study", _run)
    run.add_argument(
        "--jobs", metavar="N", type=count_of("--jobs"), help="cells side by side; as many as cores or GPUs allow"
    )
    run.add_argument("--limit", metavar="N", type=count_of("--limit"), help="compute at most so many cells")
    run.add_argument("--submit", action="store_true", help="queue the cells on a SLURM cluster")
    run.add_argument("--dry-run", action="store_true", help="say what is done, stale and missing, compute nothing")
    table = add(parts, "table", "print and write the table of what is done of a study", _table)
    table.add_argument("--reference", metavar="NAME", help="the method that the others are compared with")
    table.add_argument("--write", action="store_true", help="enter it in RESULTS.md too")
    for command in (run, table):
        command.add_argument("study", metavar="STUDY", help="a study's YAML file, or the name of a shipped one")
        command.add_argument("--look", choices=("dev", "test"), help="at the sites for choosing, or for the final look")
        command.add_argument("--only", metavar="M,M,…", type=names, default=(), help="these methods alone")
        command.add_argument("--results", metavar="DIR", type=Path, help="where the cells lie; beside the study's file")
    compare = add(commands, "compare", "compare runs, several of one method being its seeds", _compare)
    compare.add_argument("runs", metavar="RUN", nargs="*", help="a run's folder, one that holds runs, or name=RUN")
    compare.add_argument("--reference", metavar="NAME", help="what the others are compared with; the first by default")
    compare.add_argument("--output", metavar="DIR", type=Path, help="write CSV, Markdown and HTML there")


def _run(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from experiments.study.run import Options, run

    options = Options(
        look=parsed.look,
        results=parsed.results,
        only=parsed.only,
        limit=parsed.limit,
        jobs=parsed.jobs,
        submit=parsed.submit,
        dry_run=parsed.dry_run,
    )
    return run(parsed.study, overrides, options)


def _table(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from experiments.study.table import table

    return table(
        parsed.study,
        overrides,
        look=parsed.look,
        results=parsed.results,
        only=parsed.only,
        reference=parsed.reference,
        write=parsed.write,
    )


def _compare(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from experiments.comparison.compare import compare_runs

    return compare_runs(parsed.runs, overrides, parsed.reference, parsed.output)
