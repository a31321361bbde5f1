"""What is known of a study's cells: done, stale, finished in a run folder but not written down yet, or missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from datamodules.errors import UsageError
from experiments import status
from experiments.configuration import load_experiment
from experiments.run_folder import RunFolder
from experiments.study import records
from experiments.study import settings as same
from experiments.study.cells import Cell
from experiments.study.records import Record


@dataclass(frozen=True)
class Known:
    """A cell and what is known of it.

    Attributes:
        cell: the cell.
        record: its record, where it counts.
        stale: why the record that is there does not count.
        taken: where the record comes from, when it was found elsewhere than in the cell's own file.
    """

    cell: Cell
    record: Record | None = None
    stale: str = ""
    taken: str = ""


def look_up(cells: Sequence[Cell], results: Path, keep: bool = True) -> list[Known]:
    """What is known of each cell; what is found elsewhere than in its own file is kept there, where that is wanted.

    A cell of the same settings may stand in another study, or be another row of this one, and a run may have been
    finished by other hands, such as a cluster's.
    """
    elsewhere = _elsewhere(cells, results)
    known = [_look_up(cell, results, elsewhere) for cell in cells]
    if keep:
        for entry in known:
            if entry.record is not None and entry.taken:
                records.write(entry.record)
    return known


def _look_up(cell: Cell, results: Path, elsewhere: dict[str, Record]) -> Known:
    path = cell.file(results)
    reason = ""
    if path.is_file():
        try:
            record = records.read(path)
        except UsageError as error:
            reason = str(error)
        else:
            reason = records.stale(record, cell)
            if not reason:
                return Known(cell, record)
    if (other := elsewhere.get(cell.hash)) is not None and not records.stale(other, cell):
        record = _adopted(other, cell, results)
        return Known(cell, record, taken=f"the same as {other.path.parent.parent.name}/{other.path.stem}")
    if (run := find_run(cell)) is not None and (done := finished(cell, run, results)) is not None:
        return Known(cell, done, taken=f"finished in {run.path}")
    return Known(cell, stale=reason)


def _elsewhere(cells: Sequence[Cell], results: Path) -> dict[str, Record]:
    """Records under the results that have the hash of one of the cells."""
    wanted = {cell.hash for cell in cells}
    found: dict[str, Record] = {}
    for path in sorted(results.glob("*/*/*.csv")):
        try:
            record = records.read(path)
        except UsageError:
            continue
        if record.head.hash in wanted:
            found.setdefault(record.head.hash, record)
    return found


def _adopted(record: Record, cell: Cell, results: Path) -> Record:
    head = replace(record.head, study=cell.study, look=cell.look, method=cell.method)
    return Record(head, record.settings, record.rows, cell.file(results))


def find_run(cell: Cell) -> RunFolder | None:
    """The run folder that trains what the cell wants, the one that was touched last where there are several."""
    wanted = same.of_training(cell.settings)
    folder = Path(cell.config.run.root) / cell.config.name
    found = []
    for path in folder.glob("*/config.yaml"):
        if ".replaced-" in path.parent.name:
            continue
        settings = _settings(path, path.stat().st_mtime_ns)
        if settings is not None and same.of_training(settings) == wanted:
            found.append(path)
    latest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None if latest is None else RunFolder(latest.parent)


def finished(cell: Cell, run: RunFolder, results: Path) -> Record | None:
    """The record of a run that has been trained and evaluated as the cell asks for; None where it has not."""
    known = status.read(run.path)
    if known is None or known.state != "done":
        return None
    if _settings(run.config, run.config.stat().st_mtime_ns) != cell.settings:
        return None
    try:
        return records.of_run(cell, run, results, None)
    except UsageError:
        return None


@lru_cache(maxsize=4096)
def _settings(config: Path, written: int) -> same.Settings | None:
    """Of a run's ``config.yaml`` as it was ``written`` last; checking one takes a while, and a study asks for many."""
    try:
        return same.settings(load_experiment(config).config)
    except UsageError:
        return None
