"""A sweep file in W&B's own format, read and checked; all its faults are told at once, with file and line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import UsageError
from experiments.command_line import sort_words
from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.layers import parse_yaml, shown
from experiments.configuration.nodes import Items, Mapping, Scalar
from experiments.locate import SHIPPED
from experiments.sweep.parameters import Parameter, read_parameters
from experiments.sweep.plain import is_number, not_a_number, plain

METHODS = ("grid", "random", "bayes")
VALIDATION = "val/dice"
"""What trials are judged by: Dice on the source's validation cases."""
MACROS = (
    "args_no_hyphens", "args", "args_no_equals", "args_no_boolean_flags", "args_append_hydra", "args_override_hydra",
    "args_json", "args_json_file",
)  # fmt: skip
_ITS_OWN = ("description", "entity", "project", "settings", "apiVersion", "kind")
_OURS = ("program", "command", "method", "metric", "parameters", "name", "run_cap", "early_terminate")
_NOT_HERE = {
    "metrics": "several objectives are not supported; give one as metric",
    "controller": "the controller of W&B's own is not needed; `pansite sweep` searches without a server",
    "scheduler": "W&B's schedulers are not supported; `pansite sweep` searches by itself",
    "job": "W&B Launch is not supported; name the experiment in command",
    "image_uri": "W&B Launch is not supported; name the experiment in command",
}
_ENVIRONMENT = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


@dataclass(frozen=True)
class Metric:
    """What is sought.

    Attributes:
        name: under which it is logged.
        maximize: whether more is better.
        target: a value at which no further trial is begun.
    """

    name: str
    maximize: bool
    target: float | None = None

    @property
    def peeks(self) -> bool:
        """Whether it is measured on sites or cases that selection is not to see."""
        return self.name.startswith("evaluation/")


@dataclass(frozen=True)
class Early:
    """W&B's hyperband: which trials are ended early.

    Attributes:
        bands: numbers of validations after which a trial is held against the others.
        eta: a trial goes on among the best ``1 / eta``.
        strict: judge the value at the band, not the best so far.
    """

    bands: tuple[int, ...]
    eta: float
    strict: bool


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
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = SHIPPED / "sweeps"
    inside = Path(name.removeprefix(f"{SHIPPED.name}/").removeprefix("sweeps/"))
    for candidate in (shipped / inside, shipped / f"{inside}.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted(file.stem for file in shipped.glob("*.yaml"))
    hint = did_you_mean(inside.stem, known)
    raise UsageError(f"{name}: there is no such file, and no shipped sweep of that name; {hint}")


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
    root = parse_yaml(path.read_text(encoding="utf-8-sig"), label, faults)
    if not isinstance(root, Mapping) or not root.entries:
        if root is not None:
            faults.add(label, "", "a sweep is a mapping of keys such as 'method:' and 'parameters:'.")
        return None
    reader = _Reader(root, label, faults)
    reader.keys()
    method = reader.method()
    metric = reader.metric()
    verb, experiment, overrides = reader.command(metric)
    parameters = read_parameters(root.entries["parameters"], method, faults) if "parameters" in root.entries else []
    if "parameters" not in root.entries:
        faults.add(label, "parameters", "is missing; name the keys to be tried, each with values or min and max.")
    reader.doubled(parameters, overrides)
    early = reader.early(metric)
    cap = reader.cap()
    if experiment is None or not parameters:
        return None
    method, metric = method or METHODS[0], metric or Metric(VALIDATION, True, None)
    given = name or reader.text("name") or path.stem
    return SweepFile(path, given, verb, experiment, overrides, method, metric, tuple(parameters), cap, early)


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

    def metric(self) -> Metric | None:
        node = self._entries.get("metric")
        known = f"{VALIDATION} (Dice on the source's validation cases)"
        if not isinstance(node, Mapping):
            where = node.where if node else self._label
            self._faults.add(where, "metric", f"is missing; write {{name: {VALIDATION}, goal: maximize}}.")
            return None
        allowed = ("name", "goal", "target", "impute", "impute_while_running")
        for key, item in node.entries.items():
            if key not in allowed:
                self._faults.add(item.where, f"metric.{key}", f"W&B knows no such key; {did_you_mean(key, allowed)}")
        settings = {key: plain(item, f"metric.{key}", self._faults) for key, item in node.entries.items()}
        name, goal, target = settings.get("name"), settings.get("goal"), settings.get("target")
        place: Callable[[str], str] = lambda key: node.entries[key].where if key in node.entries else node.where  # noqa: E731
        if name != VALIDATION and not str(name).startswith("evaluation/"):
            hint = did_you_mean(str(name), [VALIDATION])
            hint = hint if hint.startswith("did") else f"known: {known}."
            self._faults.add(place("name"), "metric.name", f"nothing is logged as {name!r}; {hint}")
            return None
        smaller = str(name).endswith(("/hd95", "/assd", "/failures")) or "/gap/" in str(name)
        wanted = "minimize" if smaller else "maximize"
        if goal != wanted:
            said = f"not {goal!r}" if goal else "which W&B takes for minimize where nothing is said"
            said = said if goal or not smaller else "which is better written out"
            self._faults.add(place("goal"), "metric.goal", f"must be {wanted} for {name}, {said}.")
            return None
        if target is not None and not is_number(target):
            self._faults.add(place("target"), "metric.target", f"expects a number, not {not_a_number(target)}.")
            target = None
        return Metric(str(name), not smaller, target)

    def command(self, metric: Metric | None) -> tuple[str, str | None, tuple[str, ...]]:
        node = self._entries.get("command")
        form = "write [pansite, fit, EXPERIMENT, '${args_no_hyphens}']"
        if not isinstance(node, Items) or not all(isinstance(item, Scalar) for item in node.nodes):
            self._faults.add(
                node.where if node else self._label, "command", f"is missing; {form}, which names the experiment."
            )
            return "fit", None, ()
        words = [_ENVIRONMENT.sub(_variable, item.text) for item in node.nodes if isinstance(item, Scalar)]
        verb = next((word for word in words if word in ("fit", "run")), None)
        if verb is None:
            self._faults.add(node.where, "command", f"runs neither `pansite fit` nor `pansite run`; {form}.")
            return "fit", None, ()
        rest = words[words.index(verb) + 1 :]
        macros = [word[2:-1] for word in rest if word.startswith("${")]
        for macro in macros:
            if macro not in MACROS:
                known = f"known: {', '.join(f'${{{each}}}' for each in MACROS)}"
                self._faults.add(node.where, "command", f"W&B has no macro ${{{macro}}}; {known}.")
        if not macros:
            self._faults.add(node.where, "command", f"hands no parameter on; {form}.")
        if verb == "run" and metric is not None and not metric.peeks:
            self._faults.add(
                node.where, "command", "a trial is `pansite fit`: the best alone is evaluated on held-out sites."
            )
        if verb == "fit" and metric is not None and metric.peeks:
            self._faults.add(node.where, "command", f"{metric.name} is known to `pansite run` alone.")
        try:
            sorted_words = sort_words([word for word in rest if not word.startswith("${")])
        except UsageError as error:
            self._faults.add(node.where, "command", str(error))
            return verb, None, ()
        named = [word for word in sorted_words.own if not word.startswith("-")]
        if len(named) != 1:
            self._faults.add(node.where, "command", f"names {len(named)} experiments; {form}.")
            return verb, None, ()
        return verb, named[0], tuple(sorted_words.overrides)

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

    def early(self, metric: Metric | None) -> Early | None:
        node = self._entries.get("early_terminate")
        if node is None:
            return None
        allowed = ("type", "min_iter", "max_iter", "s", "eta", "strict")
        if not isinstance(node, Mapping):
            self._faults.add(node.where, "early_terminate", "write {type: hyperband, min_iter: 3}.")
            return None
        for key, item in node.entries.items():
            if key not in allowed:
                hint = did_you_mean(key, allowed)
                self._faults.add(item.where, f"early_terminate.{key}", f"W&B knows no such key; {hint}")
        settings = {key: plain(item, f"early_terminate.{key}", self._faults) for key, item in node.entries.items()}
        problem = _problem_of_early(settings)
        if problem is None and metric is not None and metric.peeks:
            problem = "trials are ended by source validation, which is not the metric here; leave it out."
        if problem:
            self._faults.add(node.where, "early_terminate", problem)
            return None
        eta = settings.get("eta", 3)
        return Early(tuple(bands(settings, eta)), eta, bool(settings.get("strict", False)))


def bands(settings: dict[str, Any], eta: float) -> list[int]:
    """W&B's bands: ``min_iter · eta^k``, or ``max_iter / eta^k`` for k up to ``s``, cut to whole numbers."""
    if "max_iter" in settings:
        found = [settings["max_iter"] / eta**power for power in range(1, int(settings["s"]) + 1)]
        return sorted(int(band) for band in found if band >= 1)
    # As many as a hundred with W&B; no run has more validations than this.
    return [int(settings["min_iter"] * eta**power) for power in range(100) if settings["min_iter"] * eta**power < 1e9]


def _problem_of_early(settings: dict[str, Any]) -> str | None:
    if settings.get("type") != "hyperband":
        return f"the type {settings.get('type')!r} is not supported; known: hyperband."
    for key in ("min_iter", "max_iter", "s", "eta"):
        if key in settings and not is_number(settings[key]):
            return f"{key} expects a number, not {not_a_number(settings[key])}."
    if settings.get("eta", 3) <= 1:
        return f"eta must be above 1, not {settings['eta']}."
    if "max_iter" in settings and "s" not in settings:
        return "max_iter needs s, the number of bands below it."
    if "max_iter" not in settings and "min_iter" not in settings:
        return "needs min_iter, or max_iter and s: numbers of validations."
    if "max_iter" not in settings and settings["min_iter"] < 1:
        return f"min_iter must be at least 1, not {settings['min_iter']}."
    if not bands(settings, settings.get("eta", 3)):
        return "leaves no band: max_iter / eta is below 1, or s is 0."
    return None


def _variable(match: re.Match[str]) -> str:
    # As W&B does: what is not set stays a word.
    return os.environ.get(match[1], match[1])


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
