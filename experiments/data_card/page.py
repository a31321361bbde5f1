"""Writes the data card: one page and one JSON of all sites of an experiment, and a JSON in each site's folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.atomic import finite, write_json, write_text
from datamodules.case_statistics import BINS, PERCENTILES
from datamodules.preparation import Preparation
from datamodules.seal import Overlap
from experiments.config import ExperimentConfig
from experiments.data_card.figures import hu_distributions, strips
from experiments.data_card.marks import NOTABLE, mark
from experiments.data_card.model import QUANTITIES, CardCase, CardSite, card_site, shift
from experiments.data_card.pictures import Picture, picture
from experiments.pages import render as pages
from experiments.pages.words import count

FOLDER = "data_cards"
"""In the store."""
CARD = "data_card.json"
"""In a site's folder in the store."""
BESIDE, ALONE = 340, 240
"""Width in pixels of the pictures side by side, and of those of a single site."""
MOST_OUTLIERS = 6
FARTHEST = 5.0
"""Shifts beyond are told alike."""


def write_card(config: ExperimentConfig, preparations: Sequence[Preparation], overlap: Overlap) -> Path:
    """Write the card of an experiment.

    Args:
        config: the experiment.
        preparations: its sites as prepared, the source first.
        overlap: the scans that they share.

    Returns:
        The page, ``<store>/data_cards/<experiment>.html``; the JSON lies beside it.
    """
    sites = [card_site(site, "held_out" if number else "source") for number, site in enumerate(preparations)]
    described = {site.name: described_site(site, sites[0]) for site in sites}
    for preparation, site in zip(preparations, sites, strict=True):
        write_json(preparation.folder / CARD, described[site.name])
    folder = Path(config.data.store).expanduser() / FOLDER
    path = folder / f"{config.name}.html"
    write_json(path.with_suffix(".json"), {"sites": described, "overlap": overlap.to_dict()})
    write_text(path, render(config.name, sites, overlap, config.data.overlap))
    return path


def render(name: str, sites: Sequence[CardSite], overlap: Overlap, policy: str) -> str:
    """The page as HTML."""
    template = Path(__file__).with_name("card.html")
    return pages.render(
        template,
        style=template.with_name("card.css"),
        contents=[
            ("beside", "Side by side"),
            *((f"site-{number}", site.name) for number, site in enumerate(sites, start=1)),
        ],
        name=name,
        sites=sites,
        source=sites[0],
        quantities=QUANTITIES,
        sentences=sentences(sites, overlap),
        leaks=overlap.leaks,
        policy=policy,
        twice=[*overlap.within, *overlap.between],
        shifts={site.name: {q.name: shift(site, sites[0], q) for q in QUANTITIES} for site in sites},
        marks=mark,
        hu=hu_distributions(sites),
        strips=strips(sites),
        typical={site.name: picture(_typical(site), BESIDE) for site in sites},
        odd={site.name: _odd(site) for site in sites},
        total=sum(len(site.cases) for site in sites),
        patients=sum(site.patients for site in sites),
        finite=math.isfinite,
    )


def sentences(sites: Sequence[CardSite], overlap: Overlap) -> list[str]:
    """What the card shows, in a few sentences."""
    source = sites[0]
    cases, own = count(len(source.cases), "case"), count(source.patients, "patient")
    told = [f"The source is {source.name}: {cases} of {own}."]
    for site in sites[1:]:
        # HU first: they come first among the quantities, and a far shift is far however far.
        far = [(q, min(FARTHEST, abs(_or_zero(shift(site, source, q))))) for q in QUANTITIES]
        most = sorted((item for item in far if item[1] >= NOTABLE), key=lambda item: -item[1])[:2]
        if not most:
            told.append(f"{site.name} looks like the source in all that is measured here.")
            continue
        differences = [f"{q.said} ({q.text(site.median(q))}, the source {q.text(source.median(q))})" for q, _ in most]
        told.append(f"{site.name} differs most in {' and '.join(differences)}.")
    if not overlap.leaks and len(sites) > 1:
        told.append("No held-out scan is among the source's, by content.")
    return told


def described_site(site: CardSite, source: CardSite) -> dict[str, Any]:
    """A site's card as plain containers."""
    return {
        "site": site.name,
        "role": site.role,
        "cases": len(site.cases),
        "patients": site.patients,
        "notes": list(site.notes),
        "excluded": dict(site.excluded),
        "quantities": {
            quantity.name: {
                "unit": quantity.unit,
                "median": _plain(site.median(quantity)),
                "lowest": _plain(min(site.values(quantity), default=math.nan)),
                "highest": _plain(max(site.values(quantity), default=math.nan)),
                "shift": _plain(shift(site, source, quantity)),
            }
            for quantity in QUANTITIES
        },
        "orientation": dict(site.orientations),
        "phase": dict(site.phases),
        "cut_off": site.cut_off,
        "hu_bins": list(BINS),
        "hu_percentiles": list(PERCENTILES),
        "hu_pancreas": [round(share, 6) for share in site.share("pancreas")],
        "hu_ring": [round(share, 6) for share in site.share("ring")],
        "outliers": dict(site.outliers),
        "by_case": {case.name: _described_case(case) for case in site.cases},
    }


def _described_case(case: CardCase) -> dict[str, Any]:
    return {
        "patient": case.patient,
        "spacing": list(case.spacing),
        "size": list(case.size),
        "orientation": case.orientation,
        "volume_ml": case.stored.record.pancreas_volume_ml,
        "warnings": list(case.stored.record.warnings),
        "quantities": {quantity.name: _plain(quantity.value(case)) for quantity in QUANTITIES},
        **{key: value for key, value in case.measured.items() if key != "slice"},
    }


def _typical(site: CardSite) -> CardCase:
    """The case whose quantities lie nearest to the site's medians."""

    def distance(case: CardCase) -> float:
        apart = [abs(q.value(case) - site.median(q)) / q.floor for q in QUANTITIES]
        return sum(value for value in apart if math.isfinite(value))

    return min(site.cases, key=lambda case: (case.measured["cut_off"], distance(case)))


def _odd(site: CardSite) -> list[tuple[Picture, list[str]]]:
    """Pictures of the site's outliers, those with most to say first."""
    order = sorted(site.outliers, key=lambda name: (-len(site.outliers[name]), name))[:MOST_OUTLIERS]
    cases = {case.name: case for case in site.cases}
    return [(picture(cases[name], ALONE), site.outliers[name]) for name in order]


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _plain(value: float) -> float | None:
    return finite(round(value, 4))
