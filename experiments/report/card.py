"""The data card of the evaluated sites, as the report's table shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.data_card.marks import mark
from experiments.pages.columns import Column, column


@dataclass(frozen=True)
class CardRow:
    """A site.

    Attributes:
        name: its name.
        role: ``source`` or ``held_out``.
        cases: how many.
        patients: how many.
        medians: by quantity; NaN where there is none.
        marks: the class of each cell.
        phases: contrast phases, the commonest first.
    """

    name: str
    role: str
    cases: int
    patients: int
    medians: Mapping[str, float]
    marks: Mapping[str, str]
    phases: tuple[str, ...]


def card_rows(card: Mapping[str, Any]) -> list[CardRow]:
    """The rows of a run's ``data_card.json``."""
    return [
        CardRow(
            name,
            site["role"],
            site["cases"],
            site["patients"],
            {key: math.nan if told["median"] is None else told["median"] for key, told in site["quantities"].items()},
            {key: mark(told["shift"]) for key, told in site["quantities"].items()},
            tuple(site["phase"]),
        )
        for name, site in card.items()
    ]


def card_columns(card: Mapping[str, Any]) -> list[Column]:
    """Its quantities."""
    return [column(name) for name in dict.fromkeys(key for site in card.values() for key in site["quantities"])]


def quantity(card: Mapping[str, Any], site: str, case: str, name: str) -> float:
    """A quantity of a case; NaN where the card does not tell."""
    value = card.get(site, {}).get("by_case", {}).get(case, {}).get("quantities", {}).get(name)
    return math.nan if value is None else float(value)
