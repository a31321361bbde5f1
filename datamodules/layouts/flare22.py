"""FLARE22, the labelled cases of the MICCAI 2022 challenge, as unpacked.

    Training/FLARE22_LabeledCase50/images/FLARE22_Tr_0001_0000.nii.gz
    Training/FLARE22_LabeledCase50/labels/FLARE22_Tr_0001.nii.gz

50 labelled CTs, which come from MSD Pancreas: not held out where that is the source, nor the other way round; id 4.
Ma et al., The Lancet Digital Health 6:e815 (2024), https://doi.org/10.1016/S2589-7500(24)00154-7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import example, inner, nifti_files, paired, stem
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

NAME = re.compile(r"FLARE22_Tr_\d{4}_0000")
WAYS = ("Training/FLARE22_LabeledCase50", "FLARE22_LabeledCase50")


@LAYOUTS.register("flare22", target="datamodules.layouts.flare22:cases")
@dataclass(kw_only=True)
class FLARE22Site(SiteConfig):
    """FLARE22: images and labels of FLARE22_LabeledCase50, images with the suffix _0000."""

    about: ClassVar[About] = About(
        title="FLARE22",
        folder="Training/FLARE22_LabeledCase50/{images/FLARE22_Tr_0001_0000,labels/FLARE22_Tr_0001}.nii.gz",
        cases=50,
        citation="Ma et al. 2024, https://doi.org/10.1016/S2589-7500(24)00154-7",
        contains="MSD Pancreas",
    )

    layout: str = "flare22"
    labels: list[int] = field(default_factory=lambda: [4])


def cases(site: FLARE22Site) -> list[Case]:
    """Every case of which the image or the label is there.

    Raises:
        UsageError: no such folder, or no cases.
    """
    root = inner(site.path(), *WAYS, has="images")
    found = paired(
        nifti_files(root / "images", lambda name: stem(name).removesuffix("_0000")),
        nifti_files(root / "labels"),
        image_at=lambda case: root / "images" / f"{case}_0000.nii.gz",
        label_at=lambda case: root / "labels" / f"{case}.nii.gz",
    )
    return checked_cases(site, found)


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    folder = inner(root, *WAYS, has="images") / "images"
    name = example(folder, NAME.match)
    return f"there is {folder / name}" if name else None
