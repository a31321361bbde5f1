"""W&B's distributions as Optuna's: by the mapping of W&B's own Optuna scheduler where it has one, exactly elsewhere.

What Optuna has no distribution for is drawn as a quantile, uniform between 0 and 1, and put through the inverse of the
distribution function: that is the very distribution under random search, and its prior under TPE.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.sweep.parameters import Parameter, quantised


@dataclass(frozen=True)
class Dimension:
    """One parameter as Optuna searches it.

    Attributes:
        key: of the experiment.
        distribution: Optuna's.
        value: of the key, from what Optuna has drawn.
        words: what it maps to, for people.
    """

    key: str
    distribution: BaseDistribution
    value: Callable[[Any], Any]
    words: str

    @property
    def grid(self) -> list[Any]:
        """What Optuna may draw, one by one; of what is discrete alone."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        assert isinstance(self.distribution, IntDistribution | FloatDistribution)
        step = self.distribution.step
        assert step is not None
        count = round((self.distribution.high - self.distribution.low) / step) + 1
        return [self.distribution.low + number * step for number in range(count)]


def space(parameters: Sequence[Parameter]) -> list[Dimension]:
    """The dimensions of all parameters that are not constant."""
    return [dimension(parameter) for parameter in parameters if parameter.distribution != "constant"]


def constants(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The value of each parameter that has but one."""
    return {
        parameter.key: parameter.settings["value"] for parameter in parameters if parameter.distribution == "constant"
    }


def dimension(parameter: Parameter) -> Dimension:
    """One parameter as Optuna searches it."""
    kind, settings = parameter.distribution, parameter.settings
    if kind == "categorical":
        # Optuna keeps words and numbers alone; the text is what W&B's agent would hand on.
        simple = all(isinstance(value, bool | int | float | str | None) for value in settings["values"])
        choices = settings["values"] if simple else [str(value) for value in settings["values"]]
        return _same(parameter, CategoricalDistribution(choices), f"one of {len(choices)} values")
    if "min" in settings:
        return _ranged(parameter)
    inverse = _inverse(kind, settings)
    return Dimension(parameter.key, FloatDistribution(0, 1), inverse, f"{kind} by its quantile")


def _ranged(parameter: Parameter) -> Dimension:
    kind, settings = parameter.distribution, parameter.settings
    low, high, q = settings["min"], settings["max"], settings.get("q")
    if kind == "int_uniform":
        return _same(parameter, IntDistribution(low, high), f"whole, {low} to {high}")
    if kind == "uniform":
        return _same(parameter, FloatDistribution(low, high), f"{low:g} to {high:g}")
    if kind == "q_uniform":
        stepped = _stepped(low, high, settings["q"])
        return _same(parameter, stepped, f"{stepped.low:g} to {stepped.high:g} in steps of {q:g}")
    if kind in ("log_uniform", "q_log_uniform"):
        low, high = math.exp(low), math.exp(high)
    elif kind == "inv_log_uniform":
        low, high = math.exp(-high), math.exp(-low)
    words = f"{low:g} to {high:g} by the logarithm"
    if q is None:
        return _same(parameter, FloatDistribution(low, high, log=True), words)
    if kind == "q_log_uniform_values" and q == 1 and low >= 1 and isinstance(low, int) and isinstance(high, int):
        return _same(parameter, IntDistribution(low, high, log=True), f"whole, {words}")
    words = f"{words}, to the nearest multiple of {q:g}"
    rounded = partial(quantised, q=settings["q"])
    return Dimension(parameter.key, FloatDistribution(low, high, log=True), rounded, words)


def _same(parameter: Parameter, distribution: BaseDistribution, words: str) -> Dimension:
    return Dimension(parameter.key, distribution, lambda value: value, words)


def _stepped(low: float, high: float, q: float) -> IntDistribution | FloatDistribution:
    with warnings.catch_warnings():
        # Where no whole number of steps leads there, Optuna ends below; the words that are printed say where.
        warnings.simplefilter("ignore", UserWarning)
        if isinstance(low, int) and isinstance(high, int) and isinstance(q, int):
            return IntDistribution(low, high, step=q)
        return FloatDistribution(low, high, step=q)


def _inverse(kind: str, settings: dict[str, Any]) -> Callable[[float], Any]:
    """The inverse of a distribution function: a value for each quantile."""
    base = kind.removeprefix("q_")
    families: dict[str, Callable[[dict[str, Any]], Callable[[float], Any]]]
    families = {
        "categorical_w_probabilities": _listed,
        "normal": _normal,
        "log_normal": _log_normal,
        "beta": _beta,
    }
    draw = families[base](settings)
    return (lambda quantile: quantised(draw(quantile), settings["q"])) if "q" in settings else draw


def _listed(settings: dict[str, Any]) -> Callable[[float], Any]:
    def draw(quantile: float) -> Any:
        reached = 0.0
        for value, probability in zip(settings["values"], settings["probabilities"], strict=True):
            reached += probability
            if quantile < reached:
                return value
        # The sum may fall short of 1 by a rounding error.
        return next(
            value
            for value, probability in reversed([*zip(settings["values"], settings["probabilities"], strict=True)])
            if probability > 0
        )

    return draw


def _normal(settings: dict[str, Any]) -> Callable[[float], float]:
    normal = NormalDist(settings["mu"], settings["sigma"])
    # The ends of a normal distribution lie nowhere.
    return lambda quantile: normal.inv_cdf(min(max(quantile, 1e-12), 1 - 1e-12))


def _log_normal(settings: dict[str, Any]) -> Callable[[float], float]:
    normal = _normal(settings)
    return lambda quantile: math.exp(normal(quantile))


def _beta(settings: dict[str, Any]) -> Callable[[float], float]:
    from scipy.special import betaincinv

    inverse: Callable[[float, float, float], float] = betaincinv
    return lambda quantile: float(inverse(settings["a"], settings["b"], quantile))
