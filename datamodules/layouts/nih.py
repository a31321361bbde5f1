"""NIH Pancreas-CT, as the retriever of The Cancer Imaging Archive stores it, with its labels unpacked.

    Pancreas-CT/PANCREAS_0001/<study>/<series>/1-001.dcm
    TCIA_pancreas_labels-02-05-2017/label0001.nii.gz

80 portal venous CTs of healthy pancreata; id 1. Cases 25 and 70 were withdrawn: they are the scan of case 2. The
headers of the labels do not tell how they lie on the DICOM slices, so that is found by evidence.
Roth et al., Data from Pancreas-CT, The Cancer Imaging Archive (2016), https://doi.org/10.7937/K9/TCIA.2016.tNB1kqBU;
CC BY 3.0.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.files import example, folders, nifti_files, paired, stem
from datamodules.layouts.site import LAYOUTS, About, Case, Flip, SiteConfig, checked_cases

PATIENT, LABEL = re.compile(r"PANCREAS_(\d{4})"), re.compile(r"label(\d{4})")
WITHDRAWN = ("PANCREAS_0025", "PANCREAS_0070")
DEPTH = 3


@LAYOUTS.register("nih", target="datamodules.layouts.nih:cases")
@dataclass(kw_only=True)
class NIHSite(SiteConfig):
    """NIH Pancreas-CT: DICOM series in PANCREAS_0001/…, labels as label0001.nii.gz.

    Attributes:
        label_root: the labels' folder, where it does not lie below ``root``.
        label_flip: by evidence: the labels' headers can't be trusted.
    """

    about: ClassVar[About] = About(
        title="NIH Pancreas-CT",
        folder="Pancreas-CT/PANCREAS_0001/<study>/<series>/*.dcm and …/label0001.nii.gz",
        cases=80,
        licence="CC BY 3.0",
        citation="Roth et al. 2016, https://doi.org/10.7937/K9/TCIA.2016.tNB1kqBU",
    )

    layout: str = "nih"
    label_root: str = field(default="", metadata={"path": True})
    label_flip: Flip | None = field(default="evidence", metadata={"selects": True})


def cases(site: NIHSite) -> list[Case]:
    """Every case of which a series or a label is there.

    Raises:
        UsageError: no such folder, or no cases.
    """
    root = site.path()
    patients = {p.name: [p] for p in folders(root, DEPTH) if PATIENT.fullmatch(p.name)}
    labels: dict[str, list[Path]] = {}
    for folder in folders(Path(site.label_root).expanduser() if site.label_root else root, DEPTH - 1):
        if not PATIENT.fullmatch(folder.name):
            for name, files in nifti_files(folder, _labelled).items():
                labels.setdefault(name, []).extend(files)
    found = paired(
        patients,
        labels,
        image_at=lambda case: root / "Pancreas-CT" / case,
        label_at=lambda case: root / f"label{case[-4:]}.nii.gz",
    )
    return checked_cases(site, map(_with_series, found))


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    for folder in folders(root, DEPTH - 1):
        if name := example(folder, PATIENT.fullmatch, files=False):
            return f"there is a folder {folder / name}"
    return None


def _labelled(name: str) -> str | None:
    match = LABEL.fullmatch(stem(name))
    return f"PANCREAS_{match[1]}" if match else None


def _with_series(case: Case) -> Case:
    """The case with the folder of its slices, or why it has none."""
    if case.case in WITHDRAWN:
        withdrawn = "it was withdrawn: it is the scan of PANCREAS_0002"
        return replace(case, patient="PANCREAS_0002", fault=withdrawn)
    series = sorted(Path(folder) for folder, _, names in os.walk(case.image) if any(map(_is_slice, names)))
    if len(series) == 1:
        return replace(case, image=series[0])
    fault = case.fault
    if series:
        named = ", ".join(str(folder.relative_to(case.image)) for folder in series)
        fault = f"{case.image} has {len(series)} folders with DICOM slices: {named}; keep one of them"
    elif case.image.exists():
        fault = f"{case.image} has no DICOM slices (*.dcm) in it"
    return replace(case, fault=fault)


def _is_slice(name: str) -> bool:
    return name.lower().endswith(".dcm") and not name.startswith(".")
