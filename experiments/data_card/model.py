"""What a data card shows, measured case by case and compared site by site."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datamodules import case_statistics
from datamodules.case_statistics import PERCENTILES
from datamodules.preparation import Preparation
from datamodules.seal import patients
from datamodules.store import StoredCase

Role = Literal["source", "held_out"]
FAR = 3.5
"""Robust standard deviations from its site's median beyond which a case is an outlier (Iglewicz and Hoaglin, 1993)."""
MEDIAN = PERCENTILES.index(50)


@dataclass(frozen=True)
class Quantity:
    """Something that is measured of each case.

    Attributes:
        name: in the JSON.
        label: at the head of a column.
        said: in a sentence.
        unit: of the number, empty for none.
        digits: behind the point.
        floor: a spread between cases below which they do not differ.
        value: takes it from a case.
    """

    name: str
    label: str
    said: str
    unit: str
    digits: int
    floor: float
    value: Callable[[CardCase], float]

    def text(self, value: float) -> str:
        """A value with its unit."""
        number = "–" if not math.isfinite(value) else f"{value:.{self.digits}f}".replace("-", "−")
        return f"{number} {self.unit}".strip()


@dataclass(frozen=True)
class CardCase:
    """A case as the card shows it.

    Attributes:
        stored: in the store.
        patient: by content too: one scan twice is one patient.
        spacing: mm along x, y, z of the patient, on its own grid.
        size: voxels along them.
        orientation: axis codes of its files.
        measured: see :func:`datamodules.case_statistics.measure`.
    """

    stored: StoredCase
    patient: str
    spacing: tuple[float, float, float]
    size: tuple[int, int, int]
    orientation: str
    measured: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its id."""
        return self.stored.record.case

    def hu(self, part: str) -> float:
        """Median HU of ``pancreas`` or ``ring``."""
        percentiles = self.measured[part]["percentiles"]
        return float(percentiles[MEDIAN]) if percentiles else math.nan


QUANTITIES = (
    Quantity("pancreas_hu", "Pancreas", "HU of the pancreas", "HU", 0, 3.0, lambda case: case.hu("pancreas")),
    Quantity("ring_hu", "Ring", "HU around it", "HU", 0, 3.0, lambda case: case.hu("ring")),
    Quantity(
        "contrast_hu",
        "Contrast",
        "contrast to what is around",
        "HU",
        0,
        3.0,
        lambda case: case.hu("pancreas") - case.hu("ring"),
    ),
    Quantity("vessels_hu", "Vessels", "HU of vessels", "HU", 0, 5.0, lambda case: _number(case.measured["vessels"])),
    Quantity("fat_percent", "Fat", "fat around it", "%", 0, 2.0, lambda case: 100 * _number(case.measured["fat"])),
    Quantity("volume_ml", "Volume", "volume", "ml", 0, 2.0, lambda case: case.stored.record.pancreas_volume_ml),
    Quantity("slice_mm", "Slice", "slice thickness", "mm", 1, 0.1, lambda case: case.spacing[2]),
    Quantity("pixel_mm", "Pixel", "pixel size", "mm", 2, 0.05, lambda case: case.spacing[0]),
    Quantity("height_mm", "Height", "height of the scan", "mm", 0, 10.0, lambda case: case.spacing[2] * case.size[2]),
)


@dataclass(frozen=True)
class CardSite:
    """A site as the card shows it.

    Attributes:
        name: its name.
        role: what it is in the experiment.
        cases: those that can be used.
        excluded: why each other case can't.
        notes: what preparation says of the site as a whole.
        outliers: what is out of the ordinary with a case within its site, by case.
    """

    name: str
    role: Role
    cases: tuple[CardCase, ...]
    excluded: Mapping[str, str]
    notes: tuple[str, ...]
    outliers: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def patients(self) -> int:
        """How many patients."""
        return len({case.patient for case in self.cases})

    @property
    def cut_off(self) -> list[str]:
        """Cases whose pancreas reaches the border of the volume."""
        return [case.name for case in self.cases if case.measured["cut_off"]]

    def values(self, quantity: Quantity) -> list[float]:
        """A quantity of every case that has it."""
        return [value for case in self.cases if math.isfinite(value := quantity.value(case))]

    def median(self, quantity: Quantity) -> float:
        """Its median."""
        values = self.values(quantity)
        return statistics.median(values) if values else math.nan

    @property
    def phases(self) -> list[tuple[str, int]]:
        """How often each contrast phase occurs, the commonest first."""
        return Counter(str(case.measured["phase"]) for case in self.cases).most_common()

    @property
    def orientations(self) -> list[tuple[str, int]]:
        """How often each orientation of files occurs, the commonest first."""
        return Counter(case.orientation for case in self.cases).most_common()

    def share(self, part: str) -> list[float]:
        """The histogram of HU in ``pancreas`` or ``ring``, each case weighing the same, as shares of 1."""
        total = [0.0] * len(self.cases[0].measured[part]["histogram"])
        for case in self.cases:
            counts = case.measured[part]["histogram"]
            for place, count in enumerate(counts):
                total[place] += count / max(1, sum(counts)) / len(self.cases)
        return total


def card_site(preparation: Preparation, role: Role) -> CardSite:
    """A prepared site as the card shows it."""
    patient = dict(patients(preparation))
    cases = []
    for stored in preparation.kept:
        geometry = case_statistics.geometry(stored.record)
        x, y, z = geometry["spacing"]
        d, h, w = geometry["size"]
        cases.append(
            CardCase(
                stored=stored,
                patient=patient[stored.record.case],
                spacing=(x, y, z),
                size=(d, h, w),
                orientation=geometry["orientation"],
                measured=case_statistics.read(stored),
            )
        )
    return CardSite(
        name=preparation.site,
        role=role,
        cases=tuple(cases),
        excluded=preparation.excluded,
        notes=preparation.notes,
        outliers=_outliers(cases),
    )


def shift(site: CardSite, source: CardSite, quantity: Quantity) -> float:
    """By how many of the source's spreads a site's median lies beside the source's; NaN where either has none.

    The spread is the source's median absolute deviation times 1.4826, at least the quantity's floor.
    """
    values, other = source.values(quantity), site.median(quantity)
    if not values or not math.isfinite(other):
        return math.nan
    return (other - statistics.median(values)) / _spread(values, quantity.floor)


def _outliers(cases: Sequence[CardCase]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for quantity in QUANTITIES:
        values = [value for case in cases if math.isfinite(value := quantity.value(case))]
        if len(values) < 4:
            continue
        middle, spread = statistics.median(values), _spread(values, quantity.floor)
        for case in cases:
            value = quantity.value(case)
            if math.isfinite(value) and abs(value - middle) > FAR * spread:
                text = f"{quantity.said} {quantity.text(value)}, where the site's median is {quantity.text(middle)}"
                found.setdefault(case.name, []).append(text)
    for case in cases:
        if case.measured["cut_off"]:
            found.setdefault(case.name, []).append("the pancreas reaches the border of the volume")
    return found


def _spread(values: Sequence[float], floor: float) -> float:
    middle = statistics.median(values)
    return max(floor, 1.4826 * statistics.median(abs(value - middle) for value in values))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
