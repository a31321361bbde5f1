"""Which cases the slice viewer shows, and how large: the worst of each site and its median, within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.report.model import CaseResult, SiteResult
from experiments.report.overlays import choice
from experiments.report.volumes import Sheets, sheets

MOST = 24
"""Cases, where sites are not more."""
BUDGET = 3_400_000
"""Bytes of all volumes, before base64."""


@dataclass(frozen=True)
class Viewed:
    """A case in the viewer.

    Attributes:
        case: the case.
        rank: ``worst``, ``worst 2``, …, ``median`` or ``only``, within its site.
        sheets: its volume.
    """

    case: CaseResult
    rank: str
    sheets: Sheets


def viewed(sites: Sequence[SiteResult], budget: int = BUDGET) -> list[Viewed]:
    """The cases that the viewer shows, the worst of all first.

    However many there are, all stay within ``budget`` bytes, at most :data:`BUDGET`: volumes are coarsened first, and
    left out where even that does not do.

    Raises:
        UsageError: a file of a volume can't be read.
    """
    chosen = sorted(_chosen(sites), key=lambda item: (item[1].dice, item[1].site, item[1].case))[:MOST]
    found, budget = [], min(budget, BUDGET)
    # What the best ones don't need is left for the worst.
    for left, (rank, case) in zip(range(len(chosen), 0, -1), reversed(chosen), strict=True):
        assert case.volume is not None
        made = sheets(case.volume, budget // left)
        if made is not None:
            # In base64 four letters stand for three bytes.
            budget -= (len(made.image) + len(made.masks)) * 3 // 4
            found.append(Viewed(case, rank, made))
    return found[::-1]


def _chosen(sites: Sequence[SiteResult]) -> list[tuple[str, CaseResult]]:
    each = max(1, MOST // max(1, len(sites)))
    chosen = []
    for site in sites:
        if not site.cases:
            continue
        ranked = dict(choice(site.cases))
        worst = site.cases[: max(1, each - 1)]
        named = [(f"worst {place}" if place > 1 else "worst", case) for place, case in enumerate(worst, start=1)]
        if "only" in ranked:
            named = [("only", ranked["only"])]
        elif each > 1 and ranked["median"] not in worst:
            named.append(("median", ranked["median"]))
        chosen += [(rank, case) for rank, case in named if case.volume is not None]
    return chosen
