"""A sweep's folder, ``<run.root>/sweeps/<name>``: its file as it was, its experiment, and what was allowed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.atomic import write_json, write_text
from datamodules.errors import UsageError
from experiments.configuration import Loaded, load_experiment
from experiments.configuration.faults import Faults
from experiments.identity import altered_keys
from experiments.locate import find_experiment
from experiments.sweep.file import SweepFile, faults_of, find_sweep, read_sweep
from experiments.sweep.probe import probe

FOLDER = "sweeps"
RECORD, FILE, BASE = "sweep.json", "sweep.yaml", "experiment.yaml"


@dataclass(frozen=True)
class Opened:
    """A sweep, ready to be worked on.

    Attributes:
        folder: of the sweep.
        plan: what its file says.
        experiment: the file of the experiment.
        overrides: of all trials.
        base: the experiment with them.
        peeking: whether selection may see held-out sites.
    """

    folder: Path
    plan: SweepFile
    experiment: Path
    overrides: tuple[str, ...]
    base: Loaded
    peeking: bool

    def cap(self, wanted: int | None, grid: int | None) -> int:
        """Most trials of all.

        Args:
            wanted: by the command line, which goes before the file.
            grid: points of the grid.

        Raises:
            UsageError: nothing sets an end.
        """
        limits = [number for number in (self.plan.run_cap if wanted is None else wanted, grid) if number is not None]
        if not limits:
            raise UsageError(
                f"{self.plan.path}: nothing says how many trials there are to be; give --trials N or, in it, run_cap."
            )
        return min(limits)


def open_sweep(name: str, overrides: Sequence[str], peeking: bool = False) -> Opened:
    """Open a sweep, or begin it.

    Args:
        name: the sweep's file, the name of a shipped one, or the folder of one that was begun.
        overrides: of all trials, on top of the command's in the file.
        peeking: allow for a metric of held-out sites.

    Raises:
        ConfigurationErrors: the file has faults.
        UsageError: it is not the sweep that was begun under this name, or it would peek.
    """
    if (Path(name).expanduser() / RECORD).is_file():
        if overrides:
            raise UsageError(f"{name}: was begun, and {overrides[0]!r} can't be given to trials that are trained.")
        return reopen(Path(name).expanduser())
    path = find_sweep(name)
    plan = faults_of(path, lambda sweep, faults: _check(sweep, overrides, faults))
    if plan.metric.peeks and not peeking:
        raise UsageError(
            f"{path}: the metric {plan.metric.name} is measured on cases that are kept to judge by, and what is chosen "
            "by them is no longer judged by them: choose by val/dice, or give --allow-peeking, and the report says so."
        )
    experiment = find_experiment(plan.experiment).resolve()
    words = (*plan.overrides, *overrides)
    base = load_experiment(experiment, words)
    folder = Path(base.config.run.root) / FOLDER / plan.name
    if (folder / RECORD).is_file():
        _compare(folder, plan, base)
    opened = Opened(folder, plan, experiment, words, base, peeking and plan.metric.peeks)
    _write(opened)
    return opened


def reopen(folder: Path) -> Opened:
    """Open a sweep that was begun.

    Raises:
        UsageError: there is none, or its experiment is another one by now.
    """
    record = _record(folder)
    plan = _kept(folder, record["name"])
    experiment, overrides = Path(record["experiment"]), tuple(record["overrides"])
    opened = Opened(folder, plan, experiment, overrides, load_experiment(experiment, overrides), record["peeking"])
    _compare(folder, plan, opened.base)
    return opened


def find_begun(name: str, overrides: Sequence[str]) -> Path:
    """The folder of a sweep that was begun, by what :func:`open_sweep` takes; its space is not looked at.

    Raises:
        UsageError: it was not.
    """
    given = Path(name).expanduser()
    if (given / RECORD).is_file():
        return given
    faults = Faults()
    plan = read_sweep(find_sweep(name), faults)
    faults.raise_any()
    assert plan is not None
    base = load_experiment(find_experiment(plan.experiment), [*plan.overrides, *overrides])
    folder = Path(base.config.run.root) / FOLDER / plan.name
    if not (folder / RECORD).is_file():
        raise UsageError(f"{folder}: no sweep was begun here; begin it with `pansite sweep {name}`.")
    return folder


def _check(sweep: SweepFile, overrides: Sequence[str], faults: Faults) -> None:
    try:
        experiment = find_experiment(sweep.experiment)
    except UsageError as error:
        faults.add(str(sweep.path), "command", str(error))
        return
    # What is wrong with the experiment itself is told as `pansite fit` tells it.
    load_experiment(experiment, [*sweep.overrides, *overrides])
    probe(sweep, experiment, [*sweep.overrides, *overrides], faults)


def _compare(folder: Path, plan: SweepFile, base: Loaded) -> None:
    """Let all trials of a sweep be of one kind.

    Raises:
        UsageError: they would not be.
    """
    record = _record(folder)
    before = _kept(folder, record["name"])
    way = f"give it another name (in {plan.path.name}: `name: …`), or remove that folder."
    for what in ("method", "metric", "parameters", "early", "verb"):
        if _without_places(getattr(before, what)) != _without_places(getattr(plan, what)):
            raise UsageError(f"{folder}: this sweep was begun with another {what} than {plan.path} has; {way}")
    if altered := altered_keys(load_experiment(folder / BASE).config, base.config):
        raise UsageError(f"{folder}: this sweep was begun with another {altered[0]}; {way}")


def _without_places(value: object) -> object:
    if isinstance(value, tuple):
        return [(each.key, each.distribution, each.settings) for each in value]
    return value


def _write(opened: Opened) -> None:
    folder = opened.folder
    if not (folder / FILE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(opened.plan.path, folder / FILE)
        write_text(folder / BASE, opened.base.yaml)
    record = {
        "name": opened.plan.name,
        "experiment": str(opened.experiment),
        "overrides": list(opened.overrides),
        "peeking": opened.peeking,
    }
    # It comes last: a folder that has it is whole.
    write_json(folder / RECORD, record)


def _record(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / RECORD).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: is not the folder of a sweep; `pansite sweep FILE` begins one.") from error


def _kept(folder: Path, name: object) -> SweepFile:
    faults = Faults()
    plan = read_sweep(folder / FILE, faults, str(name))
    faults.raise_any()
    assert plan is not None
    return plan
