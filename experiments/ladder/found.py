"""From the cells of a ladder to its numbers: the curves, what each factor costs, and which costs most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.ladder.climb import Climber
from experiments.ladder.plan import Factor, Plan
from experiments.ladder.scans import Scans
from experiments.statistics import Array, Estimate, Scores, estimate
from lightning_modules.metrics import CaseMetrics

METRICS = ("dice", "nsd")


@dataclass(frozen=True)
class Curve:
    """One run along one factor in one metric.

    Attributes:
        values: L×N, by level and case.
        means: over the cases, by level.
        changes: from level 0, case by case, by level; the first is 0.
        lost_from: the lowest level from which on every change has its whole interval below 0; None for none.
    """

    values: Array
    means: tuple[Estimate, ...]
    changes: tuple[Estimate, ...]
    lost_from: float | None

    @property
    def cost(self) -> Estimate:
        """The change from level 0 to the highest level."""
        return self.changes[-1]


@dataclass(frozen=True)
class Climb:
    """One run on the ladder.

    Attributes:
        name: what it is called.
        where: its folder.
        folder: of its cells.
        checkpoint: name, step and hash of its weights.
        curves: by factor and metric.
        cells: by factor and case, the metrics of each level.
    """

    name: str
    where: str
    folder: Path
    checkpoint: Mapping[str, object]
    curves: Mapping[tuple[str, str], Curve]
    cells: Mapping[tuple[str, str], tuple[CaseMetrics, ...]]

    def failures(self, factor: str) -> int:
        """How many cases are not found at all, on the factor's highest level."""
        return sum(cells[-1].failure for (name, _), cells in self.cells.items() if name == factor)


@dataclass(frozen=True)
class Ladder:
    """The whole ladder.

    Attributes:
        scans: what was climbed with.
        name: of their folder.
        factors: that were altered, one at a time.
        levels: rising, from 0.
        cases: ids.
        tolerance: of the NSD, mm.
        smallest_piece: pieces of a predicted mask under this share of its largest were left out; 0 for none.
        climbs: the runs, the first one being what the others are compared with.
        remarks: what is to be known of the scans, a sentence each.
    """

    scans: str
    name: str
    factors: tuple[Factor, ...]
    levels: tuple[float, ...]
    cases: tuple[str, ...]
    tolerance: float
    smallest_piece: float
    climbs: tuple[Climb, ...]
    remarks: tuple[str, ...]

    @property
    def top(self) -> float:
        """The highest level."""
        return self.levels[-1]

    def by_cost(self, climb: Climb) -> list[Factor]:
        """The factors, that first which costs a run most Dice at the highest level."""
        return sorted(self.factors, key=lambda factor: climb.curves[factor.name, "dice"].cost.value)

    def apart(self, climb: Climb, one: Factor, other: Factor) -> Estimate:
        """The Dice at the highest level of one factor minus that of another one, case by case."""
        return _estimate(climb.curves[one.name, "dice"].values[-1] - climb.curves[other.name, "dice"].values[-1])

    def against_first(self, climb: Climb, factor: str, metric: str) -> Estimate:
        """How much more of a metric a run keeps than the first one, from level 0 to the highest, case by case."""
        own, first = climb.curves[factor, metric].values, self.climbs[0].curves[factor, metric].values
        return _estimate((own[-1] - own[0]) - (first[-1] - first[0]))


def find(
    scans: Scans,
    plan: Plan,
    climbers: Sequence[Climber],
    checkpoints: Sequence[Mapping[str, object]],
    remarks: Sequence[str],
) -> Ladder:
    """Make the numbers of a ladder whose cells are all there.

    Args:
        scans: what was climbed with.
        plan: its rungs.
        climbers: the runs.
        checkpoints: name, step and hash of the weights of each.
        remarks: what is to be known beside what the scans say.
    """
    climbs = tuple(_climb(scans, plan, who, weights) for who, weights in zip(climbers, checkpoints, strict=True))
    return Ladder(
        scans=scans.title,
        name=scans.name,
        factors=plan.factors,
        levels=plan.levels,
        cases=tuple(scans.cases),
        tolerance=climbers[0].config.evaluation.tolerance,
        smallest_piece=climbers[0].config.evaluation.smallest_piece,
        climbs=climbs,
        remarks=(*scans.remarks, *remarks),
    )


def _climb(scans: Scans, plan: Plan, climber: Climber, checkpoint: Mapping[str, object]) -> Climb:
    cells = {
        (factor.name, case): tuple(_cell(climber, case, plan, factor.name, level) for level in plan.levels)
        for factor in plan.factors
        for case in scans.cases
    }
    curves = {}
    for factor in plan.factors:
        for metric in METRICS:
            by_case = [[getattr(cell, metric) for cell in cells[factor.name, case]] for case in scans.cases]
            curves[factor.name, metric] = curve(np.array(by_case, dtype=float).T, plan.levels)
    return Climb(climber.name, str(climber.run.path), climber.cells.folder, checkpoint, curves, cells)


def _cell(climber: Climber, case: str, plan: Plan, factor: str, level: float) -> CaseMetrics:
    cell = climber.cells.read(case, plan.rung(factor, level))
    assert cell is not None, "the ladder has been climbed"
    return cell


def curve(values: Array, levels: Sequence[float]) -> Curve:
    """A curve of its values, L×N by level and case."""
    changes = tuple(_estimate(row - values[0]) for row in values)
    lost = None
    for level, change in zip(reversed(levels[1:]), reversed(changes[1:]), strict=True):
        if not change.high < 0:
            break
        lost = level
    return Curve(values, tuple(_estimate(row) for row in values), changes, lost)


def _estimate(values: Array) -> Estimate:
    """The mean over cases with its interval; a single case has none."""
    if len(values) < 2:
        return Estimate(float(values.mean()), np.nan, np.nan)
    # One name for all, so that all are drawn alike.
    return estimate(Scores({("", "cases"): values[None]}, (0,)), "fixed")
