"""WORD, the Whole abdominal ORgan Dataset, as unpacked.

    WORD-V0.1.0/imagesTr/word_0002.nii.gz
    WORD-V0.1.0/labelsTr/word_0002.nii.gz

and the same in ``…Val`` and ``…Ts``: 150 CTs from one hospital, before radiotherapy, slices of 2.5 to 3 mm, LPS; id 8.
Luo et al., Medical Image Analysis 82:102642 (2022), https://doi.org/10.1016/j.media.2022.102642; GPL-3.0, for
non-commercial use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import example, inner, paired_by_name
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

NAME = re.compile(r"word_\d{4}")


@LAYOUTS.register("word", target="datamodules.layouts.word:cases")
@dataclass(kw_only=True)
class WORDSite(SiteConfig):
    """WORD: imagesTr, labelsTr, and the same for Val and Ts."""

    about: ClassVar[About] = About(
        title="WORD",
        folder="WORD-V0.1.0/{images,labels}{Tr,Val,Ts}/word_0002.nii.gz",
        cases=150,
        licence="GPL-3.0, non-commercial",
        citation="Luo et al. 2022, https://doi.org/10.1016/j.media.2022.102642",
    )

    layout: str = "word"
    labels: list[int] = field(default_factory=lambda: [8])


def cases(site: WORDSite) -> list[Case]:
    """Every case of the training, validation and test folders.

    Raises:
        UsageError: no such folder, or no cases.
    """
    root = inner(site.path(), "WORD-V0.1.0", has="imagesTr")
    return checked_cases(site, [case for part in ("Tr", "Val", "Ts") for case in _part(root, part)])


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    folder = inner(root, "WORD-V0.1.0", has="imagesTr") / "imagesTr"
    name = example(folder, NAME.match)
    return f"there is {folder / name}" if name else None


def _part(root: Path, part: str) -> list[Case]:
    return paired_by_name(root / f"images{part}", root / f"labels{part}")
