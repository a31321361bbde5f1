"""What a report shows, as types: everything that ``page`` puts on the page comes from a ``Results``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        metrics: by name every column of numbers, ``dice``, ``nsd``, ``hd95`` and ``assd`` among them; NaN where the
            file says nothing.
        empty_prediction: nothing was predicted.
        empty_reference: the label is empty.
        slices: the file of its three slices, or None where none was kept.
        volume: the file of its volume for the viewer, or None where none was kept.
        digest: of its image and label; empty where it is not known.
    """

    site: str
    case: str
    metrics: Mapping[str, float]
    empty_prediction: bool
    empty_reference: bool
    slices: Path | None
    volume: Path | None = None
    digest: str = ""

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
        statistics: of every metric that the summary has, ``dice``, ``nsd``, ``hd95`` and ``assd`` among them.
        failures: cases whose prediction or label alone is empty.
        both_empty: cases where both are empty.
        location_prior: Dice of the source's mean shape at its mean place, or None where it was not computed.
        cases: worst Dice first.
        doubt: Spearman's ρ of uncertainty and error over the cases, or None where it is not known.
    """

    name: str
    role: Role
    n: int
    statistics: Mapping[str, Statistic]
    failures: int
    both_empty: int
    location_prior: float | None
    cases: tuple[CaseResult, ...]
    doubt: float | None = None

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
        panels: the pictures of training batches that were looked at, in the order of their steps.
        excluded: reason by case by site.
        inexact: that its training went on inexactly, or an empty string.
        outside: the folder of the predictions, where another tool made them; else empty.
        looks: by held-out site, how many other looks were taken at it before; empty where no ledger tells.
        leaks: held-out cases that the run was tested on although their scans are the source's.
        voxel_edges: the smallest and the largest edge of a voxel among all cases, mm, or None where they are not known.
        smallest_piece: pieces of a predicted mask under this share of its largest were left out; 0 for none.
        doubt: Spearman's ρ of uncertainty and error over the held-out cases, or None where it is not known.
        card: the sites' data card as plain containers, by site; empty where the evaluation kept none.
        hashes: SHA-256 by what it is of.
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
    panels: tuple[Path, ...]
    excluded: Mapping[str, Mapping[str, str]]
    inexact: str = ""
    outside: str = ""
    looks: Mapping[str, int] = field(default_factory=dict)
    leaks: tuple[str, ...] = ()
    voxel_edges: tuple[float, float] | None = None
    smallest_piece: float = 0.0
    doubt: float | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of all that is measured of the cases, in the order of the table."""
        return tuple(dict.fromkeys(name for site in self.sites for case in site.cases for name in case.metrics))

    @property
    def source(self) -> SiteResult | None:
        """The source's own test cases, or None where it has none."""
        return next((site for site in self.sites if site.role == "source_test"), None)

    @property
    def held_out(self) -> tuple[SiteResult, ...]:
        """The held-out sites."""
        return tuple(site for site in self.sites if site.role == "held_out")
