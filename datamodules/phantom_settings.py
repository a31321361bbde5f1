"""Which phantom sites there are and how they differ: read from ``phantom_sites.json``, which is committed.

A site is a seed, an orientation of its files, a number of cases, and a range of each physical factor. A factor
runs from 0, the source's protocol, to 1. The source trains, the ``dev`` sites may be looked at to choose a
method, the ``test`` sites may not.

The factors' ranges were set twice. With the first ones a supervised model lost 1.6 points of Dice on the test sites,
no shift worth the name; a ladder along single factors on patients of no site told which ones cost (native phase,
fatty atrophy, lesions). The ranges were widened and the test sites given new patients then, before any other method
had been trained.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from datamodules.errors import UsageError

FACTORS = ("phase", "noise", "slice_thickness", "habitus", "lesions", "field_of_view")
"""Contrast phase (portal venous, pancreatic, native); dose and kernel; partial volume; obese or emaciated with
fatty atrophy; lesions with a dilated duct; field of view, coverage and centring."""

SITES_FILE = Path(__file__).with_name("phantom_sites.json")
HASHES_FILE = Path(__file__).with_name("phantom_hashes.json")


@dataclass(frozen=True)
class SiteSettings:
    """What makes up a phantom site.

    Attributes:
        name: the built-in site it is.
        role: ``"source"``, ``"test"`` or ``"dev"``.
        cases: number of cases.
        seed: all its patients and scans are drawn from it.
        orientation: axis codes of its files, as in nibabel: ``"LPS"`` runs to the left, back and top.
        factors: lowest and highest value of each factor; a case's lies uniformly between them.
    """

    name: str
    role: str
    cases: int
    seed: int
    orientation: str
    factors: dict[str, tuple[float, float]]

    def altered(self, cases: int | None, seed: int | None, factors: Mapping[str, float]) -> SiteSettings:
        """The site with some settings replaced; None keeps one.

        Args:
            cases: number of cases, at least 1; beyond the built-in number more are drawn.
            seed: other patients.
            factors: one value for all cases, from 0 to 1, by factor.

        Raises:
            UsageError: a number is out of its range or a factor is not known.
        """
        if cases is not None and cases < 1:
            raise UsageError(f"phantom site {self.name!r}: 'cases' is {cases}, and at least 1 is wanted")
        for factor, value in factors.items():
            if factor not in FACTORS:
                raise UsageError(f"phantom site {self.name!r}: no factor {factor!r}{_meant(factor, FACTORS)}")
            if not 0.0 <= value <= 1.0:
                raise UsageError(f"phantom site {self.name!r}: the factor {factor!r} is {value}, and 0 to 1 is wanted")
        return replace(
            self,
            cases=self.cases if cases is None else cases,
            seed=self.seed if seed is None else seed,
            factors={**self.factors, **{name: (float(value), float(value)) for name, value in factors.items()}},
        )

    def key(self) -> str:
        """Twelve characters that change with all that alters a case's voxels (not with the number of cases)."""
        settings = {**asdict(self), "cases": 0, "role": "", "generator": committed_hashes()["content"]}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    def case_id(self, index: int) -> str:
        """The id of the case of that number, from 0."""
        return f"{self.name}_{index:03d}"


def builtin_sites() -> dict[str, SiteSettings]:
    """The built-in sites by name: the source, the held-out test sites, the ``dev`` sites."""
    sites = {}
    for name, values in json.loads(SITES_FILE.read_text("utf-8")).items():
        factors = {factor: (float(low), float(high)) for factor, (low, high) in values.pop("factors").items()}
        sites[name] = SiteSettings(name=name, factors=factors, **values)
    return sites


def builtin_site(name: str) -> SiteSettings:
    """One built-in site.

    Raises:
        UsageError: there is none of that name.
    """
    sites = builtin_sites()
    if name not in sites:
        raise UsageError(f"no phantom site {name!r}{_meant(name, sites)}")
    return sites[name]


def committed_hashes() -> dict[str, str]:
    """SHA-256 of cases by id, of whole sites by name, and ``content``: of all cases of the test sites.

    Written by ``python -m datamodules.phantom_hashes``. A change of the generator that alters a voxel of the test
    sites alters ``content``, and with it the folder that generated files are kept in.
    """
    hashes: dict[str, str] = json.loads(HASHES_FILE.read_text("utf-8"))
    return hashes


def _meant(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (is {near[0]!r} meant?)" if near else f"; there are {', '.join(known)}"
