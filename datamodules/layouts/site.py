"""A site is a layout plus a root: where its cases lie, and which label ids are the pancreas."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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
    root: str = ""
    labels: list[int] = field(default_factory=lambda: [1])
    check_ct: bool = True
