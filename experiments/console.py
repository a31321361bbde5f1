"""What a command says to the person in front of it, once however many ranks there are."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.utilities import rank_zero_only  # Lightning has told it the rank
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments import launch
from lightning_modules.metrics.protocol import how_measured

_console = Console(highlight=False, soft_wrap=True)


@contextmanager
def own_words() -> Iterator[None]:
    """Leave the telling to us: Lightning's notes on its devices, loaders and loggers say nothing a user could use."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Patches come from few, fast readers: as many workers as cores would only take them from training.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            # An evaluation has no use for the callbacks of training.
            warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint.*")
            # A workstation may have SLURM's client installed.
            warnings.filterwarnings("ignore", ".*`srun` command is available.*")
            # Lightning's own use of torch, and a setting whose successor not every torch has.
            warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
            warnings.filterwarnings("ignore", ".*broadcast_buffers. is deprecated.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def first_rank() -> bool:
    """Whether this process is the first of all ranks, which speaks and writes for all."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0 and launch.first()


def say(text: str) -> None:
    """Print a line on the first rank; rich's markup is not interpreted, a file name may hold brackets."""
    if first_rank():
        _console.print(text, markup=False)


def say_here(text: str) -> None:
    """Print a line whichever rank this is: of work that ranks do each for themselves."""
    _console.print(text, markup=False)


def show_summary(summary: dict[str, Any]) -> None:
    """Print the table of ``evaluation/summary.json``: a row per site, then held-out macro mean and gap."""
    if not first_rank():
        return
    smallest = summary.get("inference", {}).get("smallest_piece", 0)
    say(how_measured(summary["tolerance_mm"], summary.get("voxel_edges_mm"), smallest))
    table = Table(box=SIMPLE_HEAD, padding=(0, 0))
    table.add_column("site", no_wrap=True)
    for column in ("n", "Dice ± sd", "median", f"NSD {summary['tolerance_mm']:g} mm", "HD95 mm", "failed", "prior"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, site in summary["sites"].items():
        table.add_row(
            f"{name} (test)" if site["role"] == "source_test" else name,
            str(site["n"]),
            f"{_number(site['dice']['mean'])} ± {_number(site['dice']['sd'])}",
            _number(site["dice"]["median"]),
            _number(site["nsd"]["mean"]),
            _number(site["hd95"]["mean"], ".1f"),
            str(site["failures"]),
            _number(summary["location_prior"].get(name)),
        )
    table.add_section()
    for title, key, sign in (("held-out macro", "held_out_macro", ""), ("source − macro", "gap", "+")):
        if values := summary.get(key):
            dice, nsd, hd95 = f"{values['dice']:{sign}.3f}", f"{values['nsd']:{sign}.3f}", f"{values['hd95']:{sign}.1f}"
            table.add_row(title, "", f"{dice:<13}", "", nsd, hd95)
    _console.print(table)
    say("prior: Dice of the source's mean shape at its mean place; failed: one of the two masks was empty")
    known = summary.get("uncertainty_and_error") or {}
    if known.get("spearman") is not None:
        say(f"uncertainty and error (1 − Dice) of {known['n']} held-out cases: Spearman's ρ {known['spearman']:.2f}")


def _number(value: float | None, form: str = ".3f") -> str:
    """A number, or a dash where too few cases make one."""
    return "–" if value is None else f"{value:{form}}"
