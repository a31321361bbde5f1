"""A site is a layout plus a root: where its cases lie, and which label ids are the pancreas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.errors import UsageError
from datamodules.registry import Registry

LAYOUTS = Registry("layout", key="layout")


@dataclass(frozen=True)
class Case:
    """One case as it lies on disk, not yet opened.

    Attributes:
        case: its id, unique within the site.
        patient: its patient's id; splits keep a patient's cases together.
        image: a NIfTI file or a folder with one DICOM series.
        label: a NIfTI file on the image's grid; None where there is none (prediction).
    """

    case: str
    patient: str
    image: Path
    label: Path | None


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
    """

    layout: str
    name: str = ""
    root: str = field(default="", metadata={"path": True})
    labels: list[int] = field(default_factory=lambda: [1])
    check_ct: bool = True

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

    def materialise(self, case: Case) -> None:
        """Make the files of ``case`` where they are not brought by the user but made; here they are there."""


def checked_cases(site: SiteConfig, cases: Iterable[Case]) -> list[Case]:
    """The cases in the order of their ids, which become folder names in the store.

    Raises:
        UsageError: there is no case, an id occurs twice, or an id can't be a folder's name.
    """
    ordered = sorted(cases, key=lambda case: case.case)
    if not ordered:
        raise UsageError(f"site {site.name!r}: no cases in {site.root} (layout {site.layout!r})")
    for case in ordered:
        name = case.case
        if not name.strip() or name[0] == "." or any(c in "/\\" or not c.isprintable() for c in name):
            raise UsageError(
                f"site {site.name!r}: the case id {name!r} can't be a folder's name: no slashes, no leading dot"
            )
        if len(name.encode()) > 200:
            raise UsageError(f"site {site.name!r}: the case id {name[:40]!r}… is longer than 200 bytes")
    twice = [name for name, count in Counter(case.case for case in ordered).items() if count > 1]
    if twice:
        raise UsageError(f"site {site.name!r}: case ids that occur twice in {site.root}: {', '.join(twice)}")
    return ordered
