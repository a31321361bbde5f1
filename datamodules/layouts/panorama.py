"""PANORAMA, the public training part: images as unpacked from Zenodo, labels as cloned from their repository.

    images/100000_00001_0000.nii.gz
    panorama_labels/automatic_labels/100000_00001.nii.gz
    panorama_labels/manual_labels/100001_00001.nii.gz

2,238 portal venous CTs; 1 lesion, 4 parenchyma, 5 duct, which together are the organ. Masks are float64; orientations
differ by origin. The first number is the patient. It contains NIH (80) and MSD Pancreas (194): not held out where
one of these is the source.
Alves et al., Zenodo (2024), https://doi.org/10.5281/zenodo.10599559; CC BY-NC 4.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import example, folders, nifti_files, paired, stem
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

NAME = re.compile(r"\d{6}_\d{5}")
CHANNEL = "_0000"
LABELS = ("manual_labels", "automatic_labels")
"""Folders of labels; a case that is in both takes the first."""
DEPTH = 2


@LAYOUTS.register("panorama", target="datamodules.layouts.panorama:cases")
@dataclass(kw_only=True)
class PANORAMASite(SiteConfig):
    """PANORAMA: images 100000_00001_0000.nii.gz, labels in automatic_labels and manual_labels.

    Attributes:
        label_root: the labels' repository, where it does not lie below ``root``.
        labels: lesion, parenchyma and duct, merged.
    """

    about: ClassVar[About] = About(
        title="PANORAMA",
        folder="…/100000_00001_0000.nii.gz and …/{automatic,manual}_labels/100000_00001.nii.gz",
        cases=2238,
        licence="CC BY-NC 4.0",
        citation="Alves et al. 2024, https://doi.org/10.5281/zenodo.10599559",
        contains="NIH Pancreas-CT, MSD Pancreas",
    )

    layout: str = "panorama"
    label_root: str = field(default="", metadata={"path": True})
    labels: list[int] = field(default_factory=lambda: [1, 4, 5])


def cases(site: PANORAMASite) -> list[Case]:
    """Every case of which the image or a label is there.

    Raises:
        UsageError: no such folder, or no cases.
    """
    root = site.path()
    images: dict[str, list[Path]] = {}
    for folder in folders(root, DEPTH):
        for case, files in nifti_files(folder, _imaged).items():
            images.setdefault(case, []).extend(files)
    label_root = Path(site.label_root).expanduser() if site.label_root else root
    kinds: dict[str, dict[str, list[Path]]] = {kind: {} for kind in LABELS}
    for folder in folders(label_root, DEPTH):
        if folder.name in kinds:
            kinds[folder.name] |= nifti_files(folder)
    found = paired(
        images,
        {**kinds[LABELS[1]], **kinds[LABELS[0]]},
        image_at=lambda case: root / f"{case}{CHANNEL}.nii.gz",
        label_at=lambda case: label_root / LABELS[1] / f"{case}.nii.gz",
        patient=lambda case: case.partition("_")[0],
    )
    return checked_cases(site, found)


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    for folder in folders(root, DEPTH):
        if name := example(folder, lambda name: _imaged(name) and NAME.match(name)):
            return f"there is {folder / name}"
    return None


def _imaged(name: str) -> str | None:
    return stem(name).removesuffix(CHANNEL) if stem(name).endswith(CHANNEL) else None
