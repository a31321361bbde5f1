"""AbdomenCT-1K, as unpacked: images and labels in folders of any names, such as imagesTr and labels, Images and Masks.

    imagesTr/Case_00001_0000.nii.gz
    labels/Case_00001.nii.gz

1,112 CTs of several phases, vendors and diseases, some without labels; id 4. It contains the CTs of MSD Pancreas (420)
and NIH (80): not held out where one of these is the source.
Ma et al., IEEE TPAMI 44:6695 (2022), https://doi.org/10.1109/TPAMI.2021.3100536; CC BY-NC-SA.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import example, folders, nifti_files, paired, stem
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

IMAGE = re.compile(r"Case_\d{5}_0000")
CHANNEL = "_0000"
DEPTH = 2


@LAYOUTS.register("abdomenct1k", target="datamodules.layouts.abdomenct1k:cases")
@dataclass(kw_only=True)
class AbdomenCT1KSite(SiteConfig):
    """AbdomenCT-1K: Case_00001_0000.nii.gz and Case_00001.nii.gz, in any folders."""

    about: ClassVar[About] = About(
        title="AbdomenCT-1K",
        folder="imagesTr/Case_00001_0000.nii.gz and labels/Case_00001.nii.gz",
        cases=1112,
        licence="CC BY-NC-SA",
        citation="Ma et al. 2022, https://doi.org/10.1109/TPAMI.2021.3100536",
        contains="MSD Pancreas, NIH Pancreas-CT",
    )

    layout: str = "abdomenct1k"
    labels: list[int] = field(default_factory=lambda: [4])


def cases(site: AbdomenCT1KSite) -> list[Case]:
    """Every case of which the image or the label is there.

    Raises:
        UsageError: no such folder, or no cases.
    """
    root = site.path()
    images: dict[str, list[Path]] = {}
    labels: dict[str, list[Path]] = {}
    for folder in folders(root, DEPTH):
        for name, files in nifti_files(folder).items():
            kind = images if name.endswith(CHANNEL) else labels
            kind.setdefault(name.removesuffix(CHANNEL), []).extend(files)
    found = paired(
        images,
        labels,
        image_at=lambda case: root / f"{case}{CHANNEL}.nii.gz",
        label_at=lambda case: root / f"{case}.nii.gz",
    )
    return checked_cases(site, found)


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    for folder in folders(root, DEPTH):
        if name := example(folder, lambda name: IMAGE.fullmatch(stem(name))):
            return f"there is {folder / name}"
    return None
