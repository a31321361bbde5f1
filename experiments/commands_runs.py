"""``pansite runs``: the runs under a folder, what each is doing and how far it is; needs neither torch nor a wait."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from datamodules.errors import UsageError
from experiments import status
from experiments.submit import FOLDER, RECORD
from experiments.terminal import terminal

METRIC = "val/dice"


@dataclass(frozen=True)
class Row:
    """A run, as it is shown.

    Attributes:
        run: its folder, relative to the one that was asked for; of a queued one, the experiment.
        seed: of its experiment.
        state: what it is doing.
        step: finished steps of all.
        best: highest validation metric so far.
        job: of SLURM's.
    """

    run: str
    seed: str
    state: str
    step: str
    best: str
    job: str


def runs(folder: Path) -> int:
    """Print the runs under a folder.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; give the one that runs are in, which run.root names.")
    table = Table(title=str(folder), title_justify="left")
    for column in ("run", "seed", "state", "step", f"best {METRIC}", "job"):
        table.add_column(column, justify="right" if column in ("seed", "step", f"best {METRIC}") else "left")
    found = rows(folder)
    for row in found:
        table.add_row(row.run, row.seed, row.state, row.step, row.best, row.job)
    terminal().print(table)
    if not found:
        print(f"{folder}: no run here, and none in its folders.")
    return 0


def rows(folder: Path) -> list[Row]:
    """The runs at or below a folder by path, then submitted ones that wait for their first start."""
    jobs = status.jobs()
    found, seen = [], set()
    for config in sorted(_configs(folder)):
        row, job = _row(folder, config.parent, jobs)
        found.append(row)
        seen.add(job)
    return [*found, *_waiting(folder, jobs or {}, seen)]


def _configs(folder: Path) -> Iterator[Path]:
    """``config.yaml`` of each run: ``<run.root>/<name>/<id>/``, asked for at any of the three."""
    for pattern in ("config.yaml", "*/config.yaml", "*/*/config.yaml"):
        yield from (path for path in folder.glob(pattern) if (path.parent / "split.json").is_file())


def _row(folder: Path, run: Path, jobs: dict[str, str] | None) -> tuple[Row, str | None]:
    config = _yaml(run / "config.yaml")
    last, best = _metrics(run / "metrics.csv")
    known = status.read(run)
    if known is not None and known.step is not None:
        last = max(last, known.step)
    state = "unknown" if known is None else status.now(known, jobs)
    if known is not None and state == "failed":
        state = f"failed: {known.reason}"
    elif known is not None and state == "running":
        state = f"running ({known.work})"
    job = None if known is None else known.job
    row = Row(
        run.relative_to(folder).as_posix() if run != folder else run.name,
        str(config.get("seed", "–")),
        state,
        f"{last} / {config.get('trainer', {}).get('max_steps', '?')}",
        "–" if best is None else f"{best:.3f}",
        job or "–",
    )
    return row, job


def _metrics(path: Path) -> tuple[int, float | None]:
    """The last step that was logged, and the highest validation metric."""
    last, best = 0, -math.inf
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                last = int(row["step"])
                if row.get(METRIC):
                    best = max(best, float(row[METRIC]))
    except (OSError, ValueError, KeyError):
        pass
    return last, None if best == -math.inf else best


def _waiting(folder: Path, jobs: dict[str, str], seen: set[str | None]) -> Iterator[Row]:
    """Runs that were submitted and have not begun."""
    for record in sorted(folder.glob(f"{FOLDER}/*/{RECORD}")):
        try:
            job = json.loads(record.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        several = len(job["tasks"]) > 1
        for number, task in enumerate(job["tasks"]):
            name = f"{job['job']}_{number}" if several else job["job"]
            if name in jobs and name not in seen:
                state = "queued" if jobs[name] not in ("RUNNING", "CONFIGURING") else "running (start)"
                yield Row(f"{task['name']}/…", str(task["seed"]), state, "0", "–", name)


def _yaml(path: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text("utf-8")) or {})
    except (OSError, ValueError, yaml.YAMLError):
        return {}
