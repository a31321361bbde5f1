"""BTCV, the abdomen part of "Beyond the Cranial Vault" (MICCAI 2015), as unpacked.

    RawData/Training/img/img0001.nii.gz
    RawData/Training/label/label0001.nii.gz

30 labelled portal venous CTs, numbers 1 to 10 and 21 to 40; id 11. ``RawData/Testing`` has no labels and is not read.
Landman et al., Synapse (2015), https://doi.org/10.7303/syn3193805; restricted: registration with Synapse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import example, inner, nifti_files, paired, stem
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

IMAGE, LABEL = re.compile(r"img(\d{4})"), re.compile(r"label(\d{4})")
WAYS = ("RawData/Training", "Training", "Abdomen/RawData/Training")


@LAYOUTS.register("btcv", target="datamodules.layouts.btcv:cases")
@dataclass(kw_only=True)
class BTCVSite(SiteConfig):
    """BTCV (Synapse multi-organ): RawData/Training/img and label."""

    about: ClassVar[About] = About(
        title="BTCV",
        folder="RawData/Training/{img/img0001,label/label0001}.nii.gz",
        cases=30,
        licence="restricted",
        citation="Landman et al. 2015, https://doi.org/10.7303/syn3193805",
    )

    layout: str = "btcv"
    labels: list[int] = field(default_factory=lambda: [11])


def cases(site: BTCVSite) -> list[Case]:
    """Every case of which the image or the label is there.

    Raises:
        UsageError: no such folder, or no cases.
    """
    root = inner(site.path(), *WAYS, has="img")
    found = paired(
        nifti_files(root / "img"),
        nifti_files(root / "label", _image_of),
        image_at=lambda case: root / "img" / f"{case}.nii.gz",
        label_at=lambda case: root / "label" / f"{case.replace('img', 'label')}.nii.gz",
    )
    return checked_cases(site, found)


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    folder = inner(root, *WAYS, has="img") / "img"
    name = example(folder, lambda name: IMAGE.fullmatch(stem(name)))
    return f"there is {folder / name}" if name else None


def _image_of(name: str) -> str:
    match = LABEL.fullmatch(stem(name))
    return f"img{match[1]}" if match else stem(name)
