"""What goes with a low Dice: every case against its volume, its slices, its HU, and what the model thought of it."""

from __future__ import annotations

import math

from markupsafe import Markup

from experiments.pages.columns import column
from experiments.pages.scatter import Dot, roles, scatter
from experiments.pages.words import number
from experiments.report.card import quantity
from experiments.report.model import CaseResult, Results
from lightning_modules.metrics.uncertainty import rank_correlation

MEASURED = ("reference_volume_ml", "uncertainty")
DESCRIBED = ("slice_mm", "ring_hu", "contrast_hu")
"""Of the data card."""
MOST_DOTS = 1500
"""Cases beyond which a page would grow too large: the plots are left out."""


def reasons(results: Results) -> list[tuple[str, str, Markup]]:
    """Heading, rank correlation and plot of each quantity that is known and varies."""
    if sum(len(site.cases) for site in results.sites) > MOST_DOTS:
        return []
    looks = roles({site.name: site.role == "held_out" for site in results.sites})
    found = []
    for name in (*MEASURED, *DESCRIBED):
        dots = [dot for site in results.sites for case in site.cases if (dot := _dot(results, case, name))]
        if len({dot.x for dot in dots}) < 2:
            continue
        told = column(name)
        held_out = [dot for dot in dots if dot.group in {site.name for site in results.held_out}]
        rho = rank_correlation([dot.x for dot in held_out], [dot.y for dot in held_out])
        note = "" if rho is None else f"ρ = {number(rho, 2)}"
        label = f"{told.label}, {told.unit}" if told.unit else told.label
        text = f"Dice of every case by {told.label}" + (f"; Spearman’s {note} over held-out cases" if note else "")
        found.append((told.label, note, scatter(dots, looks, f"reason-{name}", (label, "Dice"), text)))
    return found


def _dot(results: Results, case: CaseResult, name: str) -> Dot | None:
    x = case.metrics.get(name, math.nan) if name in MEASURED else quantity(results.card, case.site, case.case, name)
    if not math.isfinite(x) or not math.isfinite(case.dice):
        return None
    told = column(name)
    text = f"{case.site} · {case.case}: Dice {number(case.dice)}\n{told.label} {number(x, told.digits)} {told.unit}"
    return Dot(case.site, text.strip(), x, case.dice)
