"""The ``parameters`` of a sweep file: W&B's distributions, told apart and checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.nodes import Mapping, Node
from experiments.configuration.values import said
from experiments.sweep.plain import is_number, not_a_number, plain

_RANGE = ("min", "max")
_NEEDS: dict[str, tuple[tuple[str, ...], dict[str, float]]] = {
    "constant": (("value",), {}),
    "categorical": (("values",), {}),
    "categorical_w_probabilities": (("values", "probabilities"), {}),
    "int_uniform": (_RANGE, {}),
    "uniform": (_RANGE, {}),
    "q_uniform": (_RANGE, {"q": 1}),
    "log_uniform": (_RANGE, {}),
    "log_uniform_values": (_RANGE, {}),
    "inv_log_uniform": (_RANGE, {}),
    "inv_log_uniform_values": (_RANGE, {}),
    "q_log_uniform": (_RANGE, {"q": 1}),
    "q_log_uniform_values": (_RANGE, {"q": 1}),
    "normal": ((), {"mu": 0, "sigma": 1}),
    "q_normal": ((), {"mu": 0, "sigma": 1, "q": 1}),
    "log_normal": ((), {"mu": 0, "sigma": 1}),
    "q_log_normal": ((), {"mu": 0, "sigma": 1, "q": 1}),
    "beta": ((), {"a": 1, "b": 1}),
    "q_beta": ((), {"a": 1, "b": 1, "q": 1}),
}
"""What each distribution needs, and what it may be given, with W&B's default."""
GRID = ("constant", "categorical", "int_uniform", "q_uniform")
"""What W&B lays a grid over."""
KEYS = ("distribution", "value", "values", "probabilities", *_RANGE, "q", "mu", "sigma", "a", "b", "parameters")


@dataclass(frozen=True)
class Parameter:
    """One key of an experiment and where its values come from.

    Attributes:
        key: its dotted name.
        distribution: W&B's name of it, inferred where the file names none.
        settings: what else is said of it, defaults included.
        where: file and line.
    """

    key: str
    distribution: str
    settings: dict[str, Any]
    where: str

    def probes(self) -> list[Any]:
        """Values that show whether the key bears them: all of a list, the ends of a range."""
        settings = self.settings
        if self.distribution == "constant":
            return [settings["value"]]
        if "values" in settings:
            return list(settings["values"])
        if "min" in settings:
            low, high = settings["min"], settings["max"]
            if self.distribution in ("log_uniform", "q_log_uniform"):
                low, high = math.exp(low), math.exp(high)
            elif self.distribution == "inv_log_uniform":
                low, high = math.exp(-high), math.exp(-low)
            if self.distribution.startswith("q_"):
                low, high = quantised(low, settings["q"]), quantised(high, settings["q"])
            return [low, high]
        return [0.5]


def quantised(value: float, q: float) -> float:
    """The multiple of ``q`` nearest to a value, whole where ``q`` is."""
    multiple = round(value / q) * q
    return int(multiple) if isinstance(q, int) else float(multiple)


def read_parameters(node: Node, method: str | None, faults: Faults, prefix: str = "") -> list[Parameter]:
    """The parameters below ``node``, nested ones by their dotted names.

    Args:
        node: what stands at ``parameters``.
        method: of the sweep: a grid can't be laid over everything.
        faults: takes up what is wrong.
        prefix: of nested names, with its dot.
    """
    if not isinstance(node, Mapping) or not node.entries:
        faults.add(node.where, (prefix + "parameters").lstrip("."), "is empty; name at least one key of an experiment.")
        return []
    found: list[Parameter] = []
    for name, item in node.entries.items():
        key = prefix + name
        if not isinstance(item, Mapping):
            faults.add(item.where, key, f"expects keys such as values or min and max below it, not {said(item)}.")
        elif "parameters" in item.entries:
            found += read_parameters(item.entries["parameters"], method, faults, f"{key}.")
        elif (parameter := _parameter(key, item, method, faults)) is not None:
            found.append(parameter)
    return found


def _parameter(key: str, node: Mapping, method: str | None, faults: Faults) -> Parameter | None:
    where = next(iter(node.entries.values())).where if node.entries else node.where
    for name, item in node.entries.items():
        if name not in KEYS:
            faults.add(item.where, key, f"W&B knows no {name!r} of a parameter; {did_you_mean(name, KEYS)}")
            return None
    settings = {name: plain(item, key, faults) for name, item in node.entries.items()}
    if faults.touches(key):
        return None
    distribution = settings.pop("distribution", None) or _inferred(settings)
    if distribution == "categorical" and "probabilities" in settings:
        distribution = "categorical_w_probabilities"
    problem = next(_problems(distribution, settings), None) or _unfit_for_grid(distribution, method)
    if problem or distribution is None:
        faults.add(where, key, str(problem))
        return None
    return Parameter(key, distribution, {**_NEEDS[distribution][1], **settings}, where)


def _inferred(settings: dict[str, Any]) -> str | None:
    if "value" in settings:
        return "constant"
    if "values" in settings:
        return "categorical_w_probabilities" if "probabilities" in settings else "categorical"
    if "min" in settings and "max" in settings:
        kinds = {type(settings[name]) for name in _RANGE}
        return {frozenset({int}): "int_uniform", frozenset({float}): "uniform"}.get(frozenset(kinds), "ambiguous")
    return None


def _problems(distribution: Any, settings: dict[str, Any]) -> Iterator[str]:
    numbers = [name for name in settings if name not in ("value", "values", "probabilities")]
    for name in numbers:
        if not is_number(settings[name]):
            yield f"{name} expects a number, not {not_a_number(settings[name])}."
    if distribution is None:
        yield "says nothing of its values: give value, values, min and max, or a distribution."
    if distribution == "ambiguous":
        yield "min is whole and max is not, or the other way round; W&B wants both whole or both with a point."
    if distribution not in _NEEDS:
        yield f"the distribution {distribution!r} is not supported; {did_you_mean(str(distribution), _NEEDS)}"
        return
    needed, allowed = _NEEDS[distribution]
    for name in needed:
        if name not in settings:
            yield f"{distribution} needs {name}."
    for name in settings:
        if name not in (*needed, *allowed):
            yield f"{distribution} has no use for {name}."
    yield from _bad_numbers(distribution, {**allowed, **settings})


def _bad_numbers(distribution: str, settings: dict[str, Any]) -> Iterator[str]:
    if "values" in settings:
        values, weights = settings["values"], settings.get("probabilities")
        if not isinstance(values, list) or not values:
            yield "values is empty; list at least one."
        elif len({repr(value) for value in values}) < len(values):
            yield "values names one of them twice."
        if weights is not None:
            if not isinstance(weights, list) or not all(map(is_number, weights)) or min(weights, default=0) < 0:
                yield "probabilities expects a list of numbers, none below 0."
            elif len(weights) != len(values):
                yield f"has {len(values)} values and {len(weights)} probabilities."
            elif abs(sum(weights) - 1) > 1e-6:
                yield f"the probabilities sum to {sum(weights):g}, not to 1."
    if "min" in settings:
        low, high = settings["min"], settings["max"]
        if low > high:
            yield f"min {low} is above max {high}."
        elif low == high:
            yield f"min and max are both {low}; give value instead."
        if distribution == "int_uniform" and not (isinstance(low, int) and isinstance(high, int)):
            yield "int_uniform wants whole numbers."
        if distribution.endswith("_values") and low <= 0:
            yield f"{distribution} wants a min above 0, not {low}."
    for name, words in (("q", "a step q"), ("sigma", "a sigma"), ("a", "an a"), ("b", "a b")):
        if name in settings and settings[name] <= 0:
            yield f"{distribution} wants {words} above 0, not {settings[name]}."


def _unfit_for_grid(distribution: Any, method: str | None) -> str | None:
    if method == "grid" and distribution not in GRID:
        return f"a grid can't be laid over {distribution}; give values, or take the method random or bayes."
    return None
