"""What a report shows, as types: everything that ``page`` puts on the page comes from a ``Results``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Role = Literal["source_test", "held_out"]


@dataclass(frozen=True)
class Statistic:
    """A metric over the cases of a site; NaN where it is not defined (the sd of one case)."""

    mean: float
    sd: float
    median: float


@dataclass(frozen=True)
class CaseResult:
    """A row of ``per_case.csv``: one case, measured on its native grid.

    Attributes:
        site: the site's name.
        case: the case's id.
        metrics: ``dice``, ``nsd``, ``precision`` and ``recall`` in [0, 1], ``hd95`` and ``assd`` in mm,
            ``volume_ml`` and ``reference_volume_ml`` in ml; NaN where the file says nothing.
        empty_prediction: nothing was predicted.
        empty_reference: the label is empty.
        slices: the file of its three slices, or None where none was kept.
    """

    site: str
    case: str
    metrics: Mapping[str, float]
    empty_prediction: bool
    empty_reference: bool
    slices: Path | None

    @property
    def dice(self) -> float:
        """The case's Dice."""
        return self.metrics["dice"]

    @property
    def remark(self) -> str:
        """What is out of the ordinary with this case, or an empty string."""
        if self.empty_prediction and self.empty_reference:
            return "both empty"
        if self.empty_prediction:
            return "empty prediction"
        return "empty label" if self.empty_reference else ""


@dataclass(frozen=True)
class SiteResult:
    """A site's results.

    Attributes:
        name: the site's name.
        role: the source's own test cases, or a held-out site.
        n: number of cases.
        statistics: ``dice``, ``nsd``, ``hd95`` and ``assd``.
        failures: cases whose prediction or label alone is empty.
        both_empty: cases where both are empty.
        location_prior: Dice of the source's mean shape at its mean place, or None where it was not computed.
        cases: worst Dice first.
    """

    name: str
    role: Role
    n: int
    statistics: Mapping[str, Statistic]
    failures: int
    both_empty: int
    location_prior: float | None
    cases: tuple[CaseResult, ...]

    @property
    def dice(self) -> float:
        """The site's mean Dice."""
        return self.statistics["dice"].mean

    def values(self, metric: str) -> list[float]:
        """A metric of every case, in the order of ``cases``."""
        return [case.metrics[metric] for case in self.cases]


@dataclass(frozen=True)
class Curve:
    """A logged value along the training steps.

    Attributes:
        steps: rising.
        values: as many.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Results:
    """All that is known of an evaluated run.

    Attributes:
        name: the experiment's name.
        id: the run's id.
        config: ``config.yaml`` as plain containers.
        config_text: ``config.yaml`` as it stands.
        overrides: what the command line changed.
        environment: packages, commit, hardware.
        split: case ids of the source by ``train``, ``validation`` and ``test``.
        sites: the source first, then the held-out sites in the order of the configuration.
        macro: mean over the held-out sites by metric.
        gap: source test − macro by metric.
        tolerance: of the NSD, mm.
        checkpoint: which weights were evaluated.
        curves: by name of the logged value.
        excluded: reason by case by site.
    """

    name: str
    id: str
    config: Mapping[str, Any]
    config_text: str
    overrides: tuple[str, ...]
    environment: Mapping[str, Any]
    split: Mapping[str, list[str]]
    sites: tuple[SiteResult, ...]
    macro: Mapping[str, float]
    gap: Mapping[str, float]
    tolerance: float
    checkpoint: Mapping[str, Any]
    curves: Mapping[str, Curve]
    excluded: Mapping[str, Mapping[str, str]]

    @property
    def source(self) -> SiteResult | None:
        """The source's own test cases, or None where it has none."""
        return next((site for site in self.sites if site.role == "source_test"), None)

    @property
    def held_out(self) -> tuple[SiteResult, ...]:
        """The held-out sites."""
        return tuple(site for site in self.sites if site.role == "held_out")
