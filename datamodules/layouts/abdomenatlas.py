"""AbdomenAtlas, as unpacked.

    BDMAP_00000001/ct.nii.gz
    BDMAP_00000001/segmentations/pancreas.nii.gz

The number of CTs differs by release. The organ has a file of its own, id 1. It contains most of the other public data
sets: held out from none of them.
Li et al., Medical Image Analysis 97:103285 (2024), https://arxiv.org/abs/2407.16697; for academic use only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import example, folder_each
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

NAME = re.compile(r"BDMAP_\d{8}")
IMAGE, ORGAN = "ct.nii.gz", "segmentations/pancreas.nii.gz"


@LAYOUTS.register("abdomenatlas", target="datamodules.layouts.abdomenatlas:cases")
@dataclass(kw_only=True)
class AbdomenAtlasSite(SiteConfig):
    """AbdomenAtlas: BDMAP_00000001/ct.nii.gz and BDMAP_00000001/segmentations/pancreas.nii.gz."""

    about: ClassVar[About] = About(
        title="AbdomenAtlas",
        folder="BDMAP_00000001/{ct,segmentations/pancreas}.nii.gz",
        licence="academic only",
        citation="Li et al. 2024, https://arxiv.org/abs/2407.16697",
        contains="most other public data sets",
    )

    layout: str = "abdomenatlas"


def cases(site: AbdomenAtlasSite) -> list[Case]:
    """Every folder with a CT or a pancreas.

    Raises:
        UsageError: no such folder, or no cases.
    """
    return checked_cases(site, folder_each(site.path(), IMAGE, ORGAN))


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    name = example(root, NAME.fullmatch, files=False)
    return f"there is a folder {root / name}" if name else None
