"""When a trial is ended before its end, as a sweep file's ``early_terminate`` says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.nodes import Mapping
from experiments.sweep.metric import Entries, Metric
from experiments.sweep.plain import is_number, not_a_number, plain


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


def read_early(entries: Entries, metric: Metric | None, faults: Faults) -> Early | None:
    """When a sweep file ends trials early; None for never, or where it is faulty.

    Args:
        entries: of the file.
        metric: what is sought; None where that is faulty.
        faults: takes up what is wrong.
    """
    node = entries.get("early_terminate")
    if node is None:
        return None
    allowed = ("type", "min_iter", "max_iter", "s", "eta", "strict")
    if not isinstance(node, Mapping):
        faults.add(node.where, "early_terminate", "write {type: hyperband, min_iter: 3}.")
        return None
    for key, item in node.entries.items():
        if key not in allowed:
            hint = did_you_mean(key, allowed)
            faults.add(item.where, f"early_terminate.{key}", f"W&B knows no such key; {hint}")
    settings = {key: plain(item, f"early_terminate.{key}", faults) for key, item in node.entries.items()}
    problem = _problem(settings)
    if problem is None and metric is not None and metric.peeks:
        problem = "trials are ended by source validation, which is not the metric here; leave it out."
    if problem:
        faults.add(node.where, "early_terminate", problem)
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


def _problem(settings: dict[str, Any]) -> str | None:
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
