"""What is said of a site that was prepared: which cases are kept, why others are not, and what is worth a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.atomic import write_json
from datamodules.errors import UsageError
from datamodules.json_files import known_json
from datamodules.layouts import SiteConfig
from datamodules.overlap import Pair, Scan, find_pairs
from datamodules.prepare_case import Outcome
from datamodules.store import Spacing, StoredCase
from datamodules.store_folders import REPORT
from datamodules.writing import writing

RULES = 2
"""Counts changes of what is refused: what older rules refused is looked at once more."""


@dataclass(frozen=True)
class Preparation:
    """A site in the store.

    Attributes:
        site: its name.
        kept: the cases that can be used, by id.
        excluded: why each other case can't.
        reused: how many were already there.
        spacing: mm along D, H, W of the stored grid.
        folder: the site's folder in the store, with the report.
        notes: what is to be said of the site as a whole, one sentence each.
        pairs: cases that are one scan, by content.
    """

    site: str
    kept: list[StoredCase]
    excluded: dict[str, str]
    reused: int
    spacing: Spacing
    folder: Path
    notes: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()


def conclude(
    site: SiteConfig,
    spacing: Spacing,
    folder: Path,
    kept: list[StoredCase],
    outcomes: dict[str, Outcome],
    notes: Sequence[str] = (),
) -> Preparation:
    """Look for scans that are there twice, write the report beside the cases, and tell what the store now holds.

    Args:
        site: what was prepared.
        spacing: of the stored grid, mm.
        folder: of this preparation of the site.
        kept: the cases that can be used.
        outcomes: what became of each case, by id.
        notes: what is to be said of the site as a whole.

    Raises:
        UsageError: no case can be used, or the store can't be written to.
    """
    excluded = {case: outcome.reason for case, outcome in sorted(outcomes.items()) if outcome.reason is not None}
    reused = sum(outcome.reused for outcome in outcomes.values())
    notes = (*notes, *_placed_by_evidence(kept))
    report = {**_report(site, spacing, kept, outcomes), "notes": list(notes)}
    pairs = _pairs(kept, report, known_json(folder / REPORT) if reused == len(kept) else {})
    with writing(folder):
        write_json(folder / REPORT, {**report, "same_scans": [pair.to_dict() for pair in pairs]})
    if not kept:
        first = "; ".join(f"{case}: {reason}" for case, reason in list(excluded.items())[:3])
        raise UsageError(f"site {site.name!r}: none of its {len(outcomes)} cases can be used: {first}")
    return Preparation(site.name, kept, excluded, reused, spacing, folder, notes, tuple(pairs))


def refusals(folder: Path) -> dict[str, Outcome]:
    """The cases that were refused for what is in their files, by the report of before."""
    report = known_json(folder / REPORT)
    entries = report.get("excluded", {}) if report.get("rules") == RULES else {}
    return {
        case: Outcome(entry["reason"], lasting=True, key=entry["key"])
        for case, entry in entries.items()
        if entry["key"]
    }


def _report(site: SiteConfig, spacing: Spacing, kept: list[StoredCase], outcomes: dict[str, Outcome]) -> dict[str, Any]:
    records = [case.record for case in kept]
    return {
        "site": site.name,
        "rules": RULES,
        "layout": site.layout,
        "root": site.root,
        "spacing": list(spacing),
        "kept": {
            record.case: {
                "patient": record.patient,
                "shape": list(record.shape),
                "native_shape": list(record.native_shape),
                "native_spacing": np.linalg.norm(np.array(record.native_affine)[:3, :3], axis=0).round(4).tolist(),
                "pancreas_volume_ml": record.pancreas_volume_ml,
                "warnings": record.warnings,
                **({"label_evidence": record.label_evidence} if record.label_evidence else {}),
            }
            for record in records
        },
        "excluded": {
            case: {"reason": outcome.reason, "key": outcome.key if outcome.lasting else ""}
            for case, outcome in sorted(outcomes.items())
            if outcome.reason is not None
        },
    }


def _placed_by_evidence(kept: Sequence[StoredCase]) -> list[str]:
    """How labels whose headers are not trusted were found to lie, over all cases of a site."""
    found = {c.record.case: c.record.label_evidence for c in kept if c.record.label_evidence}
    if not found:
        return []
    counts = Counter(evidence["flip"] for evidence in found.values())
    told = ", ".join(f"{flip} ({number} case{'s' * (number != 1)})" for flip, number in counts.most_common())
    least = min(found, key=lambda case: float(found[case]["margin"]))
    agree = sum(evidence["header_agrees"] for evidence in found.values())
    return [
        f"labels lie on their images, by HU, flipped along: {told}; the least margin is {found[least]['margin']:.2f} "
        f"({least}); their headers say the same of {agree}"
    ]


def _pairs(kept: Sequence[StoredCase], report: dict[str, Any], before: dict[str, Any]) -> list[Pair]:
    """The cases that are one scan, from the report of before where it is of the same cases."""
    scans = {case.record.case: Scan.of(case) for case in kept}
    if before.get("kept") == report["kept"] and "same_scans" in before:
        return [Pair.from_dict(entry, scans) for entry in before["same_scans"]]
    return find_pairs(list(scans.values()))
