"""A site is a layout plus a root: where its cases lie, and which label ids are the pancreas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from datamodules.errors import UsageError
from datamodules.registry import Registry

LAYOUTS = Registry("layout", key="layout")

Flip = Literal["header", "evidence", "none", "i", "j", "k", "ij", "ik", "jk", "ijk"]
"""How a label's voxels come onto the image's: as its header says, by evidence, or in the image's order with the
named axes of the image's file (first i, second j, third k) reversed. See :mod:`datamodules.label_flips`."""


@dataclass(frozen=True)
class About:
    """What is publicly known of a layout's data set.

    Attributes:
        title: its name.
        folder: what a folder of it looks like.
        cases: published number of labelled CTs; None where there is no single one.
        licence: of the data.
        citation: whom to cite, with a link.
        contains: other data sets whose scans are in it: they are not held out from one another.
    """

    title: str
    folder: str
    cases: int | None = None
    licence: str = "–"
    citation: str = "–"
    contains: str = ""


@dataclass(frozen=True)
class Case:
    """One case as it lies on disk, not yet opened.

    Attributes:
        case: its id, unique within the site.
        patient: its patient's id; splits keep a patient's cases together.
        image: a NIfTI file or a folder with one DICOM series.
        label: a NIfTI file on the image's grid; None where there is none (prediction).
        more_labels: further label files, united with the first.
        label_flip: how the label's voxels come onto the image's.
        fault: why the case can't be used, where its files need not be opened to know.
    """

    case: str
    patient: str
    image: Path
    label: Path | None
    more_labels: tuple[Path, ...] = ()
    label_flip: Flip = "header"
    fault: str | None = None


@dataclass(kw_only=True)
class SiteConfig:
    """What every layout has in common.

    Attributes:
        layout: the layout's name.
        name: the site's name; a held-out site takes its key.
        root: the folder or file the layout reads.
        labels: the label ids that make up the pancreas; they are merged into one.
        check_ct: refuse images whose intensities are not those of a CT in HU; switch it off for a CT that
            was cropped to the organ or clipped to a window.
        label_flip: how labels come onto their images where headers can't be trusted: ``evidence`` tries every flip
            and asks the HU; a flip by name takes the image's order of voxels, ``none`` or the reversed axes of the
            image's file (``j``, ``ik``, …); ``header``, and null in most layouts, believes the label's header.
        label_flip_of: the same for single cases, by id, as where the evidence is doubtful.
    """

    about: ClassVar[About] = About("", "")

    layout: str
    name: str = ""
    root: str = field(default="", metadata={"path": True})
    labels: list[int] = field(default_factory=lambda: [1])
    check_ct: bool = True
    # How they matter is in each case's key: a decision on one case leaves the others as they are in the store.
    label_flip: Flip | None = field(default=None, metadata={"selects": True})
    label_flip_of: dict[str, Flip] = field(default_factory=dict, metadata={"selects": True})

    def path(self) -> Path:
        """Where :attr:`root` points to, ``~`` expanded.

        Raises:
            UsageError: no root is given, or nothing is there.
        """
        if not self.root:
            raise UsageError(f"site {self.name!r}: the layout {self.layout!r} needs a 'root', and none is given")
        path = Path(self.root).expanduser()
        if not path.exists():
            raise UsageError(f"site {self.name!r}: its root {path} does not exist")
        return path

    def settled(self) -> tuple[SiteConfig, list[str]]:
        """This site with what only its folder can tell filled in, and what is to be said of that.

        Raises:
            UsageError: the folder does not tell.
        """
        return self, []

    def materialise(self, case: Case) -> None:
        """Make the files of ``case`` where they are not brought by the user but made; here they are there."""


def checked_cases(site: SiteConfig, cases: Iterable[Case]) -> list[Case]:
    """The cases in the order of their ids, which become folder names in the store; with the site's label flips.

    Cases of one id become one that can't be used, for that reason.

    Raises:
        UsageError: there is no case, an id can't be a folder's name, or a flip is of no case.
    """
    ordered = sorted(cases, key=lambda case: case.case)
    if not ordered:
        looks_for = f" looks for {site.about.folder}" if site.about.folder else ""
        raise UsageError(f"site {site.name!r}: no cases in {site.root}: the layout {site.layout!r}{looks_for}")
    for case in ordered:
        name = case.case
        if not name.strip() or name[0] == "." or any(c in "/\\" or not c.isprintable() for c in name):
            raise UsageError(
                f"site {site.name!r}: the case id {name!r} can't be a folder's name: no slashes, no leading dot"
            )
        if len(name.encode()) > 200:
            raise UsageError(f"site {site.name!r}: the case id {name[:40]!r}… is longer than 200 bytes")
    counts = Counter(case.case for case in ordered)
    if strange := [name for name in site.label_flip_of if name not in counts]:
        raise UsageError(f"site {site.name!r}: label_flip_of names {strange[0]!r}, and there is no such case")
    flip = site.label_flip or "header"
    placed = {case.case: replace(case, label_flip=site.label_flip_of.get(case.case, flip)) for case in ordered}
    for name, count in counts.items():
        if count > 1:  # nobody knows which of them is meant; the others are none the worse for it
            fault = f"its id occurs {count} times in {site.root}: give each case an id of its own"
            placed[name] = replace(placed[name], fault=fault)
    return list(placed.values())


def remarks(site: SiteConfig, cases: Sequence[Case]) -> list[str]:
    """What is odd of the list of a site's cases, one sentence each: another number than published."""
    usable, about = sum(case.fault is None for case in cases), site.about
    if about.cases is None or usable == about.cases:
        return []
    return [f"{usable:,} cases, where {about.title} was published with {about.cases:,}"]
