"""What a sweep seeks, as its file says it."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.nodes import Mapping, Node
from experiments.sweep.plain import is_number, not_a_number, plain

Entries = dict[str, Node]
"""Of a sweep file, by key."""

VALIDATION = "val/dice"
"""What trials are judged by: Dice on the source's validation cases."""


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


def read_metric(entries: Entries, label: str, faults: Faults) -> Metric | None:
    """What a sweep file seeks; None where it is faulty.

    Args:
        entries: of the file.
        label: of the file.
        faults: takes up what is wrong.
    """
    node = entries.get("metric")
    known = f"{VALIDATION} (Dice on the source's validation cases)"
    if not isinstance(node, Mapping):
        where = node.where if node else label
        faults.add(where, "metric", f"is missing; write {{name: {VALIDATION}, goal: maximize}}.")
        return None
    allowed = ("name", "goal", "target", "impute", "impute_while_running")
    for key, item in node.entries.items():
        if key not in allowed:
            faults.add(item.where, f"metric.{key}", f"W&B knows no such key; {did_you_mean(key, allowed)}")
    settings = {key: plain(item, f"metric.{key}", faults) for key, item in node.entries.items()}
    name, goal, target = settings.get("name"), settings.get("goal"), settings.get("target")

    def place(key: str) -> str:
        return node.entries[key].where if key in node.entries else node.where

    if name != VALIDATION and not str(name).startswith("evaluation/"):
        hint = did_you_mean(str(name), [VALIDATION])
        hint = hint if hint.startswith("did") else f"known: {known}."
        faults.add(place("name"), "metric.name", f"nothing is logged as {name!r}; {hint}")
        return None
    smaller = str(name).endswith(("/hd95", "/assd", "/failures")) or "/gap/" in str(name)
    wanted = "minimize" if smaller else "maximize"
    if goal != wanted:
        said = f"not {goal!r}" if goal else "which W&B takes for minimize where nothing is said"
        said = said if goal or not smaller else "which is better written out"
        faults.add(place("goal"), "metric.goal", f"must be {wanted} for {name}, {said}.")
        return None
    if target is not None and not is_number(target):
        faults.add(place("target"), "metric.target", f"expects a number, not {not_a_number(target)}.")
        target = None
    return Metric(str(name), not smaller, target)
