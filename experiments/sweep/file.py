"""A sweep file in W&B's own format, read and checked; all its faults are told at once, with file and line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.layers import read_yaml, shown
from experiments.configuration.nodes import Mapping
from experiments.locate import find_shipped
from experiments.sweep.command import read_command
from experiments.sweep.early import Early, read_early
from experiments.sweep.metric import VALIDATION, Metric, read_metric
from experiments.sweep.parameters import Parameter, read_parameters
from experiments.sweep.plain import plain

METHODS = ("grid", "random", "bayes")
_ITS_OWN = ("description", "entity", "project", "settings", "apiVersion", "kind")
_OURS = ("program", "command", "method", "metric", "parameters", "name", "run_cap", "early_terminate")
_NOT_HERE = {
    "metrics": "several objectives are not supported; give one as metric",
    "controller": "the controller of W&B's own is not needed; `pansite sweep` searches without a server",
    "scheduler": "W&B's schedulers are not supported; `pansite sweep` searches by itself",
    "job": "W&B Launch is not supported; name the experiment in command",
    "image_uri": "W&B Launch is not supported; name the experiment in command",
}


@dataclass(frozen=True)
class SweepFile:
    """A sweep as its file describes it.

    Attributes:
        path: the file.
        name: of the sweep.
        verb: ``fit``; ``run`` where the metric is a held-out one.
        experiment: which the command names.
        overrides: which the command gives to all trials.
        method: how the space is searched.
        metric: what is sought.
        parameters: the space.
        run_cap: most trials; None for no limit.
        early: when a trial is ended early; None for never.
    """

    path: Path
    name: str
    verb: str
    experiment: str
    overrides: tuple[str, ...]
    method: str
    metric: Metric
    parameters: tuple[Parameter, ...]
    run_cap: int | None
    early: Early | None


def find_sweep(name: str) -> Path:
    """The sweep file that ``name`` means: a path, or one that comes with Pansite.

    Raises:
        UsageError: there is none.
    """
    return find_shipped(name, "sweep", "sweeps")


def read_sweep(path: Path, faults: Faults, name: str | None = None) -> SweepFile | None:
    """The sweep that a file describes.

    Args:
        path: the file.
        faults: takes up what is wrong.
        name: of the sweep; None for what the file says, or is called.

    Returns:
        the sweep, a faulty method or metric replaced so that the rest can be checked in the same go; None where a fault
        leaves nothing to go on with.
    """
    label = shown(path)
    root = read_yaml(path, faults)
    if not isinstance(root, Mapping) or not root.entries:
        if root is not None:
            faults.add(label, "", "a sweep is a mapping of keys such as 'method:' and 'parameters:'.")
        return None
    reader = _Reader(root, label, faults)
    reader.keys()
    method = reader.method()
    metric = read_metric(root.entries, label, faults)
    command = read_command(root.entries, label, metric, faults)
    parameters = read_parameters(root.entries["parameters"], method, faults) if "parameters" in root.entries else []
    if "parameters" not in root.entries:
        faults.add(label, "parameters", "is missing; name the keys to be tried, each with values or min and max.")
    reader.doubled(parameters, command.overrides)
    early = read_early(root.entries, metric, faults)
    cap = reader.cap()
    if command.experiment is None or not parameters:
        return None
    method, metric = method or METHODS[0], metric or Metric(VALIDATION, True, None)
    given = name or reader.text("name") or path.stem
    return SweepFile(
        path, given, command.verb, command.experiment, command.overrides, method, metric, tuple(parameters), cap, early
    )


class _Reader:
    """The parts of a sweep file, one method each."""

    def __init__(self, root: Mapping, label: str, faults: Faults) -> None:
        self._entries = root.entries
        self._label = label
        self._faults = faults

    def keys(self) -> None:
        for key, node in self._entries.items():
            if key in _NOT_HERE:
                self._faults.add(node.where, key, f"{_NOT_HERE[key]}.")
            elif key not in (*_OURS, *_ITS_OWN):
                self._faults.add(node.where, key, f"W&B knows no such key of a sweep; {did_you_mean(key, _OURS)}")

    def text(self, key: str) -> str | None:
        node = self._entries.get(key)
        if node is None:
            return None
        value = plain(node, key, self._faults)
        if key == "name" and not re.fullmatch(r"\w[\w.+-]*", str(value)):
            self._faults.add(node.where, key, f"becomes a folder: use letters, digits, '_', '-', '.', not {value!r}.")
        return str(value)

    def method(self) -> str | None:
        node = self._entries.get("method")
        if node is None:
            self._faults.add(self._label, "method", f"is missing; choose one of {', '.join(METHODS)}.")
            return None
        value = plain(node, "method", self._faults)
        if value not in METHODS:
            hint = did_you_mean(str(value), METHODS)
            self._faults.add(node.where, "method", f"the method {value!r} is not supported; {hint}")
            return None
        return str(value)

    def doubled(self, parameters: Sequence[Parameter], overrides: Sequence[str]) -> None:
        fixed = {override.partition("=")[0] for override in overrides}
        seen: set[str] = set()
        for parameter in parameters:
            if parameter.key in fixed:
                self._faults.add(parameter.where, parameter.key, "is set by the command too; leave it out of one.")
            if parameter.key in seen:
                self._faults.add(parameter.where, parameter.key, "stands here twice, nested and with dots.")
            seen.add(parameter.key)

    def cap(self) -> int | None:
        node = self._entries.get("run_cap")
        if node is None:
            return None
        value = plain(node, "run_cap", self._faults)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self._faults.add(node.where, "run_cap", f"expects a whole number of at least 1, not {value!r}.")
            return None
        return value


def faults_of(path: Path, check: Callable[[SweepFile, Faults], None]) -> SweepFile:
    """Read and check a sweep file.

    Raises:
        ConfigurationErrors: with every fault there is.
    """
    faults = Faults()
    sweep = read_sweep(path, faults)
    if sweep is not None:
        check(sweep, faults)
    faults.raise_any()
    assert sweep is not None
    return sweep
