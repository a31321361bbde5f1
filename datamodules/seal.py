"""Held out means held out: no scan of the source is among those that a run is tested on, whatever it is called there.

Scans are compared by content (:mod:`datamodules.overlap`). What is to happen with a held-out case that is the
source's too says ``data.overlap``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import UsageError
from datamodules.json_files import known_json
from datamodules.overlap import DESCRIPTOR, Pair, Scan, find_pairs, groups, named
from datamodules.preparation import Preparation
from datamodules.store import Spacing, StoredCase
from datamodules.store_folders import REPORT, site_folder

if TYPE_CHECKING:
    from datamodules.config import DataConfig
    from datamodules.layouts import SiteConfig

MANY = 3
"""More pairs of two sites than these are told of in one line; summary.json and the data card list them all."""


@dataclass(frozen=True)
class Overlap:
    """The scans that were found more than once among the sites of an experiment.

    Attributes:
        source: the source's name.
        leaks: held-out cases that are the source's too; the source's case comes first in each pair.
        within: pairs of one site: its patients.
        between: pairs of two held-out sites.
    """

    source: str
    leaks: list[Pair] = field(default_factory=list)
    within: list[Pair] = field(default_factory=list)
    between: list[Pair] = field(default_factory=list)

    def excluded(self) -> dict[str, dict[str, str]]:
        """By site and case, why a held-out case is left out under ``exclude``."""
        found: dict[str, dict[str, str]] = {}
        for pair in self.leaks:
            reason = f"it is the source's {pair.first} ({pair.evidence}), and data.overlap is exclude"
            found.setdefault(pair.second.site, {}).setdefault(pair.second.case, reason)
        return found

    def refuse(self) -> None:
        """Refuse to go on where a held-out case is the source's.

        Raises:
            UsageError: naming site, case, the source's case and the way out.
        """
        if not self.leaks:
            return
        cases = len({pair.second for pair in self.leaks})
        sites = ", ".join(sorted({pair.second.site for pair in self.leaks}))
        count = "a held-out case is" if cases == 1 else f"{cases} held-out cases are"
        raise UsageError(
            f"data.held_out: {count} in the source too, by content: {named(self.leaks)}; leave such cases out with "
            f"data.overlap=exclude, or take {sites} out of data.held_out (data.overlap=allow tests on them all the "
            f"same, and the report says so for ever)."
        )

    def sentences(self) -> list[str]:
        """What is told of it: a line for each pair, or one for all pairs of two sites where they are many."""
        return [
            *_told(self.leaks, "{0.second} is the source's {0.first} ({0.evidence})", "the source's too"),
            *_told(
                [pair for pair in self.within if pair.first.site == self.source],
                "{0.second} is {0.first} too ({0.evidence}): one patient",
                "one patient with another",
            ),
            *_told(
                [pair for pair in self.within if pair.first.site != self.source],
                "{0.second} is {0.first} too ({0.evidence})",
                "another's scan too",
            ),
            *_told(
                self.between,
                "{0.second} is also {0.first} ({0.evidence}): two held-out sites",
                "another held-out site's too",
            ),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, as they go into JSON."""
        return {
            name: [pair.to_dict() for pair in pairs]
            for name, pairs in (("leaks", self.leaks), ("within", self.within), ("between", self.between))
        }


def _told(pairs: Sequence[Pair], each: str, together: str) -> list[str]:
    """The sentences of pairs of one kind, sites by sites."""
    by_sites: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        by_sites.setdefault((pair.first.site, pair.second.site), []).append(pair)
    lines = []
    for (_, site), shared in by_sites.items():
        if len(shared) > MANY:
            cases = len({pair.second for pair in shared})
            lines.append(f"{cases} cases of {site} are {together}: {named(shared)}")
        else:
            lines += [each.format(pair) for pair in shared]
    return lines


def find_overlap(source: Sequence[StoredCase], held_out: Sequence[StoredCase]) -> Overlap:
    """Look for scans that are there twice.

    Args:
        source: the source's cases, all of them: a case that validates or tests has been seen, too.
        held_out: the cases of all held-out sites.
    """
    return overlap_of([Scan.of(case) for case in source], [Scan.of(case) for case in held_out])


def overlap_of(source: Sequence[Scan], held_out: Sequence[Scan]) -> Overlap:
    """As :func:`find_overlap`, of scans."""
    overlap = Overlap(source[0].site if source else "")
    for pair in find_pairs([*source, *held_out]):
        if pair.first.site == pair.second.site:
            overlap.within.append(pair)
        elif pair.first.site == overlap.source:
            overlap.leaks.append(pair)
        else:
            overlap.between.append(pair)
    return overlap


def leave_out(preparation: Preparation, reasons: Mapping[str, str]) -> None:
    """Move cases of a site from those that are kept to those that are excluded.

    Raises:
        UsageError: none is left.
    """
    preparation.kept[:] = [case for case in preparation.kept if case.record.case not in reasons]
    preparation.excluded.update(reasons)
    if not preparation.kept:
        first = min(reasons)
        raise UsageError(
            f"data.held_out.{preparation.site}: all of its cases are the source's, the first of them {first}: "
            f"{reasons[first]}; take the site out of data.held_out."
        )


def patients(preparation: Preparation) -> list[tuple[str, str]]:
    """Case and patient of a site's cases, where what is one scan is one patient too.

    Patients keep their ids but where their scans hang together: these all take the first one's.
    """
    scans = [Scan.of(case) for case in preparation.kept]
    same = {case.record.case: case.record.patient for case in preparation.kept}
    by_patient: dict[str, list[Scan]] = {}
    for scan in scans:
        by_patient.setdefault(same[scan.case], []).append(scan)
    links = [Pair(own[0], other, 1.0, None) for own in by_patient.values() for other in own[1:]]
    for group in groups(scans, [*preparation.pairs, *links]):
        first = min(same[scan.case] for scan in group)
        for scan in group:
            same[scan.case] = first
    return list(same.items())


def stored_scans(site: SiteConfig, data: DataConfig, spacing: Spacing) -> list[Scan] | None:
    """The scans of a held-out site that the store knows of, without a look at the site; None where it knows none.

    Args:
        site: the site.
        data: of the experiment.
        spacing: of training, mm.
    """
    folder = site_folder(site, spacing, data.structure, Path(data.store))
    if folder is None:
        return None
    found = []
    for case in known_json(folder / REPORT).get("kept", ()):
        fingerprint = known_json(folder / case / "record.json").get("fingerprint")
        if fingerprint is None or not (folder / case / DESCRIPTOR).is_file():
            return None
        found.append(Scan(site.name, case, fingerprint, folder / case / DESCRIPTOR))
    return found or None
