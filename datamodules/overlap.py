"""The same scan found again, within a site and across sites, by what it shows and never by its name.

Two scans are one where their voxels are the same, however turned (:func:`datamodules.fingerprint.fingerprint`), or
where their anatomy agrees (:mod:`datamodules.same_scan`). The latter is asked only of scans of which several slices
have nearly the same key. To find these, keys are held against keys, all at once, by products of small matrices. That
grows with the square of the number of cases, but takes so little for each that the comparison of what it finds, which
grows with the number of scans that are there twice, weighs as much: of 50 slices a case, 0.3 s of one processor for
500 cases, 1 s for 1,000, 4 s for 2,000 and 21 s for 5,000, and 35 ms for each pair that is compared
(``python -m tests.benchmarks.overlap_cost``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.descriptor import VERSION, Descriptor, read_keys
from datamodules.same_scan import Agreement, agreement
from datamodules.store import StoredCase

NEAR = 0.1
"""Distance of two keys, each of length 1, below which their slices may be of one scan."""
EVERY = 2
"""Of how many slices one is looked up."""
HITS = 2
"""Slices looked up that must be near to one of a scan, so that the two are compared."""
DIMENSIONS = 24
"""Principal components of the keys by which most slices are told apart."""
ROWS, COLUMNS = 256, 32_768
"""Slices that are held against as many others at once: 32 MiB."""
DESCRIPTOR = f"descriptor-{VERSION}.npz"
"""In a case's folder in the store."""


@dataclass(frozen=True)
class Scan:
    """A prepared case, as it is looked for.

    Attributes:
        site: its site.
        case: its id.
        voxels: fingerprint of its voxels.
        path: file of its descriptor.
    """

    site: str
    case: str
    voxels: str
    path: Path

    @classmethod
    def of(cls, stored: StoredCase) -> Scan:
        """The scan of a case in the store."""
        record = stored.record
        return cls(record.site, record.case, record.fingerprint, stored.folder / DESCRIPTOR)

    def __str__(self) -> str:
        return f"{self.site}/{self.case}"


@dataclass(frozen=True)
class Pair:
    """Two cases that are one scan.

    Attributes:
        first: the one that comes earlier among those that were looked through.
        second: the other.
        agreement: how far they agree; 1 where their voxels are the same.
        height: mm along the patient that they have in common; None where their voxels are the same.
    """

    first: Scan
    second: Scan
    agreement: float
    height: float | None

    @property
    def evidence(self) -> str:
        """Why they are taken for one."""
        if self.height is None:
            return "the same voxels"
        return f"agreement {self.agreement:.2f} over {self.height:.0f} mm"

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, as they go into JSON."""
        scans = [{"site": scan.site, "case": scan.case} for scan in (self.first, self.second)]
        return {"scans": scans, "agreement": round(self.agreement, 4), "height_mm": self.height}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], scans: Mapping[str, Scan]) -> Pair:
        """What :meth:`to_dict` gave, of cases of one site.

        Args:
            values: plain containers.
            scans: the site's, by case.
        """
        first, second = (scans[scan["case"]] for scan in values["scans"])
        return cls(first, second, values["agreement"], values["height_mm"])


def find_pairs(scans: Sequence[Scan]) -> list[Pair]:
    """Every two scans that are one, in the order of the scans.

    Args:
        scans: prepared cases of any sites.
    """
    pairs: dict[tuple[int, int], Pair] = {}
    for i, j in _of_equal_voxels(scans):
        pairs[i, j] = Pair(scans[i], scans[j], 1.0, None)
    for i, j in candidates([_keys(scan) for scan in scans]) - set(pairs):
        found = _agreement(scans[i], scans[j])
        if found.same:
            pairs[i, j] = Pair(scans[i], scans[j], found.score, found.height)
    return [pairs[places] for places in sorted(pairs)]


def groups(scans: Sequence[Scan], pairs: Iterable[Pair]) -> list[list[Scan]]:
    """Scans that hang together by pairs, each group of two or more in the order of ``scans``."""
    parent = {scan: scan for scan in scans}

    def root(scan: Scan) -> Scan:
        while parent[scan] is not scan:
            parent[scan] = scan = parent[parent[scan]]
        return scan

    for pair in pairs:
        parent[root(pair.second)] = root(pair.first)
    found: dict[Scan, list[Scan]] = defaultdict(list)
    for scan in scans:
        found[root(scan)].append(scan)
    return [group for group in found.values() if len(group) > 1]


def _of_equal_voxels(scans: Sequence[Scan]) -> Iterator[tuple[int, int]]:
    by_voxels: dict[str, list[int]] = defaultdict(list)
    for place, scan in enumerate(scans):
        by_voxels[scan.voxels].append(place)
    for places in by_voxels.values():
        yield from ((i, j) for number, i in enumerate(places) for j in places[number + 1 :])


def _keys(scan: Scan) -> NDArray[np.float32]:
    """The keys of the slices that show something; none where the scan can't be compared."""
    keys = read_keys(scan.path)
    known = Descriptor(np.empty((0, 0, 0), np.int8), keys)
    return keys[keys.any(axis=1)] if known.comparable else keys[:0]


def candidates(keys: Sequence[NDArray[np.float32]]) -> set[tuple[int, int]]:
    """Places i < j of scans of which several slices are near one another.

    Args:
        keys: of each scan, N×K; none of a scan that can't be compared.
    """
    owner = np.repeat(np.arange(len(keys)), [len(own) for own in keys])
    if len(owner) == 0:
        return set()
    rows = np.concatenate([own for own in keys if len(own)])
    low = _projected(rows)
    # |a − b|² ≤ NEAR² as one product of matrices above 0, which is all that is done for every two slices.
    squares = (low**2).sum(axis=1, keepdims=True)
    ones = np.ones_like(squares)
    asked = np.hstack([2 * low, NEAR**2 - squares, -ones]).astype(np.float32)
    known = np.hstack([low, ones, squares]).astype(np.float32).T
    starts = np.searchsorted(owner, np.arange(len(keys) + 1))
    looked_up = np.concatenate([np.arange(first, last, EVERY) for first, last in pairwise(starts)])
    hits: dict[tuple[int, int], int] = defaultdict(int)
    for block in np.array_split(looked_up, -(-len(looked_up) // ROWS)):
        after = int(starts[owner[block[0]] + 1])  # each two scans once
        for first in range(after, len(rows), COLUMNS):
            near = np.flatnonzero(asked[block] @ known[:, first : first + COLUMNS] > 0)
            width = min(COLUMNS, len(rows) - first)
            own, other = block[near // width], first + near % width
            close = (owner[other] > owner[own]) & (np.linalg.norm(rows[own] - rows[other], axis=1) <= NEAR)
            found = np.unique(np.stack([own[close], owner[other[close]]], axis=1), axis=0)
            for row, scan in found.tolist():
                hits[int(owner[row]), scan] += 1
    return {pair for pair, count in hits.items() if count >= HITS}


def _projected(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first principal components: a projection brings points nearer, never apart, so that none is missed."""
    centred = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ axes[:, -DIMENSIONS:])


@lru_cache(maxsize=100_000)
def _agreement(first: Scan, second: Scan) -> Agreement:
    """How far two scans agree; asked several times by one command."""
    return agreement(Descriptor.read(first.path), Descriptor.read(second.path))


def named(pairs: Sequence[Pair], most: int = 3) -> str:
    """``site/case is site/case (evidence)`` of the first pairs, and how many more there are."""
    told = [f"{pair.second} is {pair.first} ({pair.evidence})" for pair in pairs[:most]]
    rest = len(pairs) - most
    return "; ".join(told) + (f"; and {rest} more" if rest > 0 else "")
