"""TotalSegmentator's data set, version 2, as unpacked.

    meta.csv
    s0000/ct.nii.gz
    s0000/segmentations/pancreas.nii.gz

1,228 CTs of all phases and body parts at 1.5 mm. The organ has a file of its own, id 1, of any type of number; it is
often cut off by the field of view, and empty where the scan shows none of it: such a case is left out. Of maps in which
the masks were merged, the id is 7 (version 2) or 10 (version 1): bring these by a manifest.
Wasserthal et al., Radiology: Artificial Intelligence 5:e230024 (2023), https://doi.org/10.1148/ryai.230024; CC BY 4.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import example, folder_each
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

NAME = re.compile(r"s\d{4}")
IMAGE, ORGAN = "ct.nii.gz", "segmentations/pancreas.nii.gz"


@LAYOUTS.register("totalsegmentator", target="datamodules.layouts.totalsegmentator:cases")
@dataclass(kw_only=True)
class TotalSegmentatorSite(SiteConfig):
    """TotalSegmentator v2: s0000/ct.nii.gz and s0000/segmentations/pancreas.nii.gz."""

    about: ClassVar[About] = About(
        title="TotalSegmentator v2",
        folder="s0000/{ct,segmentations/pancreas}.nii.gz",
        cases=1228,
        licence="CC BY 4.0",
        citation="Wasserthal et al. 2023, https://doi.org/10.1148/ryai.230024",
    )

    layout: str = "totalsegmentator"


def cases(site: TotalSegmentatorSite) -> list[Case]:
    """Every folder with a CT or a pancreas.

    Raises:
        UsageError: no such folder, or no cases.
    """
    return checked_cases(site, folder_each(site.path(), IMAGE, ORGAN))


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    name = example(root, lambda name: NAME.fullmatch(name) and (root / name / IMAGE).exists(), files=False)
    return f"there is {root / name / IMAGE}" if name else None
