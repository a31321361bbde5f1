"""``pansite checkpoints``: what a run could go on from, and what it would be evaluated with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from callbacks.checkpoint_io import previous, read_checkpoint
from callbacks.checkpoints import lost_best
from callbacks.inexact import recorded, sentence
from callbacks.metrics_file import read_metrics
from datamodules.errors import UsageError
from experiments.configuration import load_experiment
from experiments.run_folder import RunFolder
from experiments.terminal import terminal
from lightning_modules.stored import VERSION_KEY, this_version

METRIC = "val/dice"


@dataclass(frozen=True)
class Found:
    """A checkpoint's file, looked at.

    Attributes:
        path: the file.
        content: what it holds beside the tensors' values; None where it can't be loaded.
        reason: why not.
    """

    path: Path
    content: Mapping[str, Any] | None
    reason: str

    @property
    def step(self) -> int | None:
        """Finished optimiser steps."""
        return None if self.content is None else int(self.content.get("global_step", 0))


def checkpoints(path: Path) -> int:
    """Print a run's checkpoints: step, metric, size, time, whether they load, and what for they would be taken.

    Returns:
        2 where one can't be loaded, else 0.
    """
    run = RunFolder.existing(path)
    found = [look_at(file) for file in sorted(run.checkpoints.glob("*.ckpt"))]
    if not found:
        raise UsageError(f"{path}: no checkpoint yet; train the run with `pansite fit`.")
    uses = {"resume": taken(found, run.checkpoints / "last.ckpt")}
    wanted = load_experiment(run.config).config.evaluation.checkpoint
    uses["evaluate"] = taken(found, run.checkpoints / f"{wanted}.ckpt")
    scores = _scores(run.metrics)
    table = Table("file", title=str(run.path), title_justify="left")
    for column in ("step", METRIC, "MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("written", "loads", "taken by"):
        table.add_column(column)
    for one in found:
        status = one.path.stat()
        table.add_row(
            one.path.name,
            "–" if one.step is None else str(one.step),
            _score(one, scores),
            f"{status.st_size / 2**20:.1f}",
            datetime.fromtimestamp(status.st_mtime).strftime("%Y-%m-%d %H:%M:%S"),
            one.reason or f"yes{_version(one)}",
            ", ".join(use for use, path in uses.items() if path == one.path),
        )
    terminal().print(table)
    newest = max((one for one in found if one.content is not None), key=lambda one: one.step or 0, default=None)
    entries = [] if newest is None else recorded(newest.content or {})
    for said in (sentence(entries), lost_best(run.checkpoints)):
        if said:
            terminal().print(said)
    return 2 if any(one.content is None for one in found) else 0


def look_at(path: Path) -> Found:
    """Load a checkpoint and say why where it does not load."""
    try:
        return Found(path, read_checkpoint(path), "")
    except UsageError as error:
        return Found(path, None, str(error).removeprefix(f"{path}: "))


def taken(found: list[Found], path: Path) -> Path | None:
    """Which of ``path`` and its predecessor is gone on from: the newer one that loads; None where neither does."""
    steps = {one.path: one.step for one in found if one.step is not None}
    candidates = [file for file in (path, previous(path)) if file in steps]
    return max(candidates, key=lambda file: steps[file] or 0, default=None)


def _scores(metrics: Path) -> dict[int, float]:
    rows = read_metrics(metrics) if metrics.is_file() else []
    return {int(row["step"]): row[METRIC] for row in rows if METRIC in row}


def _score(one: Found, scores: Mapping[int, float]) -> str:
    """The validation at the checkpoint's step, or what the best one was chosen by."""
    best = (one.content or {}).get("callbacks", {}).get("BestCheckpoint", {})
    if best.get("step") is not None and best["step"] == one.step:
        return f"{best['score']:.4f}"
    return "–" if one.step is None or one.step not in scores else f"{scores[one.step]:.4f}"


def _version(one: Found) -> str:
    wrote = (one.content or {}).get(VERSION_KEY)
    return "" if wrote in (None, this_version()) else f", of Pansite {wrote}"
