"""A cell that is done, as one CSV to be committed: comment lines that say what it is, then a row a case.

# pansite cell: {"study": "generalisation_small", "method": "gin", "seed": 0, …}
# settings: {"data.batch_size": 2, …}
site,case,dice,nsd,hd95,…,content
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from datamodules.atomic import atomic_file
from datamodules.errors import UsageError
from experiments.comparison import measured
from experiments.comparison.measured import CONTENT, DESCRIBED, Evaluated
from experiments.run_folder import RunFolder
from experiments.study import settings as same
from experiments.study.cells import Cell
from lightning_modules.metrics.record import COLUMNS

_HEAD, _SETTINGS = "# pansite cell: ", "# settings: "


@dataclass(frozen=True)
class Head:
    """What a cell's file says of where its numbers come from.

    Attributes:
        study: its study.
        look: at which sites.
        method: the row of the table.
        experiment: the experiment's name.
        source: the site that was trained on.
        seed: the experiment's.
        fold: the fold of the source that tested.
        hash: of the settings.
        run: the run's id.
        checkpoint: name, step and SHA-256 of the weights, and that they are not exact where that is so.
        roles: of each site, ``source_test`` or ``held_out``.
        protocol: how was evaluated.
        validation: best Dice on the source's validation cases.
        listings: of each site that is no phantom, a hash of its cases as they were listed.
        commit: of the code that trained it; with a ``+`` where files differed from it.
        machine: what it was trained on.
        seconds: that training and this evaluation took, all lives of a killed one; None where it was not this command
            that ran both.
        finished: the day, by UTC.
    """

    study: str
    look: str
    method: str
    experiment: str
    source: str
    seed: int
    fold: int
    hash: str
    run: str
    checkpoint: dict[str, Any]
    roles: dict[str, str]
    protocol: dict[str, Any]
    validation: float | None
    listings: dict[str, str]
    commit: str
    machine: str
    seconds: float | None
    finished: str


@dataclass(frozen=True)
class Record:
    """A cell's file.

    Attributes:
        head: what it is.
        settings: of the cell when it was computed.
        rows: a case each, as they stand in the run's ``per_case.csv``, and ``content``.
        path: the file.
    """

    head: Head
    settings: same.Settings
    rows: list[dict[str, str]]
    path: Path

    def evaluated(self) -> Evaluated:
        """As it enters a comparison."""
        head, where = self.head, str(self.path)
        return Evaluated(
            head.method, head.source, head.seed, head.fold, head.roles, measured.scores(self.rows, where),
            head.validation, head.protocol, where,
        )  # fmt: skip

    def dice(self) -> float:
        """Held-out macro Dice."""
        sites: dict[str, list[float]] = {}
        for row in self.rows:
            if self.head.roles[row["site"]] == "held_out":
                sites.setdefault(row["site"], []).append(float(row["dice"]))
        means = [sum(values) / len(values) for values in sites.values()]
        return sum(means) / len(means) if means else math.nan


def read(path: Path) -> Record:
    """Read a cell's file.

    Raises:
        UsageError: it is none, or can't be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, settings = (_commented(file.readline(), mark) for mark in (_HEAD, _SETTINGS))
            rows = list(csv.DictReader(file))
        known = {field.name for field in fields(Head)}
        record = Record(Head(**{key: head[key] for key in known}), settings, rows, path)
        if {row["site"] for row in rows} != set(record.head.roles):
            raise ValueError("its rows are not of its sites")
        return record
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{path}: not a cell's file that can be read ({error}); remove or restore it.") from error


def write(record: Record) -> None:
    """Write a cell's file, whole or not at all."""
    with atomic_file(record.path) as file:
        file.write(f"{_HEAD}{json.dumps(asdict(record.head), ensure_ascii=False)}\n")
        file.write(f"{_SETTINGS}{json.dumps(record.settings, ensure_ascii=False)}\n")
        writer = csv.DictWriter(file, [*COLUMNS, *DESCRIBED, CONTENT], lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(record.rows)


def of_run(cell: Cell, run: RunFolder, results: Path, seconds: float | None) -> Record:
    """The record of a cell whose run is finished.

    Raises:
        UsageError: the run has not been evaluated on the cell's sites in the cell's way.
    """
    summary = measured.summary_of_run(run)
    roles = {name: str(site["role"]) for name, site in summary["sites"].items() if site["n"]}
    if {name for name, role in roles.items() if role == "held_out"} != set(cell.config.data.held_out):
        raise UsageError(f"{run.path}: has been evaluated on other sites than those of {cell.name}.")
    wanted = {key.rpartition(".")[2]: value for key, value in cell.settings.items() if key.startswith("evaluation.")}
    wanted = {"tolerance_mm": wanted.pop("tolerance"), **wanted}
    protocol = measured.protocol(summary)
    if any(protocol.get(key) != value for key, value in wanted.items()):
        raise UsageError(f"{run.path}: has been evaluated in another way than {cell.name} asks for.")
    rows = [row for row in measured.rows_of_run(run) if row["site"] in roles]
    counts = {name: sum(row["site"] == name for row in rows) for name in roles}
    if counts != {name: summary["sites"][name]["n"] for name in roles}:
        raise UsageError(f"{run.path}: its per_case.csv and summary.json are of different evaluations.")
    environment = _environment(run)
    config = cell.config
    head = Head(
        study=cell.study,
        look=cell.look,
        method=cell.method,
        experiment=config.name,
        source=cell.source,
        seed=cell.seed,
        fold=cell.fold,
        hash=cell.hash,
        run=run.path.name,
        checkpoint=summary["checkpoint"],
        roles=roles,
        protocol=protocol,
        validation=measured.validation(run.metrics),
        listings=listings(cell),
        commit=_commit(environment),
        machine=_machine(environment),
        seconds=None if seconds is None else round(seconds, 1),
        finished=time.strftime("%Y-%m-%d", time.gmtime((run.evaluation / "summary.json").stat().st_mtime)),
    )
    return Record(head, cell.settings, rows, cell.file(results))


def listings(cell: Cell) -> dict[str, str]:
    """Of each site that is no phantom and can be read here, a hash of its cases as they are listed."""
    data = cell.config.data
    listed = {data.source.name: data.source, **data.held_out}
    return {name: found for name, site in listed.items() if (found := same.listing(site)) is not None}


def stale(record: Record, cell: Cell) -> str:
    """Why a record does not count for a cell any more; empty where it does."""
    if record.head.hash != cell.hash and (
        reason := same.altered(record.settings, cell.settings, same.defaults(cell.config))
    ):
        return reason
    now = listings(cell)
    others = [name for name, found in record.head.listings.items() if now.get(name, found) != found]
    return f"the cases of {others[0]} are others now" if others else ""


def time_taken(seconds: float | None) -> str:
    """A duration for a person."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def commits(records: Sequence[Record]) -> list[str]:
    """The commits that computed them, each once."""
    return list(dict.fromkeys(record.head.commit for record in records))


def _commented(line: str, mark: str) -> dict[str, Any]:
    if not line.startswith(mark):
        raise ValueError(f"no line {mark.strip()!r}")
    value: dict[str, Any] = json.loads(line.removeprefix(mark))
    return value


def _environment(run: RunFolder) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return {}


def _commit(environment: dict[str, Any]) -> str:
    git = environment.get("git") or {}
    return f"{str(git.get('commit', 'unknown'))[:10]}{'+' if git.get('changed') else ''}"


def _machine(environment: dict[str, Any]) -> str:
    cpu, gpus = environment.get("cpu") or {}, environment.get("gpus") or []
    words = [", ".join(gpus), f"{cpu.get('count', '?')} CPU cores, {cpu.get('threads', '?')} threads a process"]
    torch = (environment.get("packages") or {}).get("torch")
    return ", ".join(word for word in (*words, f"torch {torch}" if torch else "") if word)
