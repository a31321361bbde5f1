"""AMOS 2022, as unpacked.

    amos22/dataset.json
    amos22/imagesTr/amos_0001.nii.gz
    amos22/labelsTr/amos_0001.nii.gz

and the same in ``imagesVa`` and ``labelsVa``: 300 labelled CTs of 5 mm slices, LAS; id 10. Cases from number 500 on
are MR and left out. ``imagesTs`` has no labels and is not read.
Ji et al., NeurIPS Datasets and Benchmarks (2022), https://arxiv.org/abs/2206.08023; the licence is uncertain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import example, inner, paired_by_name
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

NAME = re.compile(r"amos_(\d{4})")
FIRST_MR = 500


@LAYOUTS.register("amos", target="datamodules.layouts.amos:cases")
@dataclass(kw_only=True)
class AMOSSite(SiteConfig):
    """AMOS 2022: imagesTr, labelsTr, imagesVa, labelsVa; its MR cases are left out."""

    about: ClassVar[About] = About(
        title="AMOS22",
        folder="{images,labels}{Tr,Va}/amos_0001.nii.gz",
        cases=300,
        licence="uncertain",
        citation="Ji et al. 2022, https://arxiv.org/abs/2206.08023",
    )

    layout: str = "amos"
    labels: list[int] = field(default_factory=lambda: [10])


def cases(site: AMOSSite) -> list[Case]:
    """Every case of the training and validation folders; MR among them are named as such.

    Raises:
        UsageError: no such folder, or no cases.
    """
    root = inner(site.path(), "amos22", has="imagesTr")
    return checked_cases(site, [_told_from_mr(case) for part in ("Tr", "Va") for case in _part(root, part)])


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    folder = inner(root, "amos22", has="imagesTr") / "imagesTr"
    name = example(folder, NAME.match)
    return f"there is {folder / name}" if name else None


def _part(root: Path, part: str) -> list[Case]:
    return paired_by_name(root / f"images{part}", root / f"labels{part}")


def _told_from_mr(case: Case) -> Case:
    number = NAME.fullmatch(case.case)
    if number is None or int(number[1]) < FIRST_MR:
        return case
    return replace(case, fault=f"an MR: AMOS' cases from number {FIRST_MR} on are, and CTs are wanted")
