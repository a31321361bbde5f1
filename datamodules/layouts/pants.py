"""PanTS, the public part, as unpacked.

    ImageTr/PanTS_00000001/ct.nii.gz
    LabelTr/PanTS_00000001/segmentations/pancreas.nii.gz

and the same in ``ImageTe`` and ``LabelTe``: 9,901 CTs. Every structure has a file of its own, id 1; a file of the
lesion is united with the organ's. Of maps in which the masks were merged, the organ is 17, body 18, head 19, tail 20,
lesion 28: bring these by a manifest.
Li et al., NeurIPS Datasets and Benchmarks (2025), https://arxiv.org/abs/2507.01291; CC BY-NC-ND.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import case_folders, example
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

NAME = re.compile(r"PanTS_\d{8}")
PARTS = ("Tr", "Te")
IMAGE, ORGAN, LESION = "ct.nii.gz", "segmentations/pancreas.nii.gz", "segmentations/pancreatic_lesion.nii.gz"


@LAYOUTS.register("pants", target="datamodules.layouts.pants:cases")
@dataclass(kw_only=True)
class PanTSSite(SiteConfig):
    """PanTS: ImageTr/PanTS_00000001/ct.nii.gz and LabelTr/PanTS_00000001/segmentations."""

    about: ClassVar[About] = About(
        title="PanTS",
        folder="Image{Tr,Te}/PanTS_00000001/ct.nii.gz and Label{Tr,Te}/PanTS_00000001/segmentations/pancreas.nii.gz",
        cases=9901,
        licence="CC BY-NC-ND",
        citation="Li et al. 2025, https://arxiv.org/abs/2507.01291",
    )

    layout: str = "pants"


def cases(site: PanTSSite) -> list[Case]:
    """Every case of which the image or the label is there.

    Raises:
        UsageError: no such folder, or no cases.
    """
    root = site.path()
    return checked_cases(site, [case for part in PARTS for case in _part(root, part)])


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    for part in PARTS:
        folder = root / f"Image{part}"
        if name := example(folder, NAME.fullmatch, files=False):
            return f"there is a folder {folder / name}"
    return None


def _part(root: Path, part: str) -> list[Case]:
    images, labels = root / f"Image{part}", root / f"Label{part}"
    names = {*case_folders(images, IMAGE), *case_folders(labels, ORGAN)}
    return [_case(images / name / IMAGE, labels / name) for name in names]


def _case(image: Path, folder: Path) -> Case:
    lesion = (folder / LESION,) if (folder / LESION).exists() else ()
    return Case(folder.name, folder.name, image, folder / ORGAN, more_labels=lesion)
