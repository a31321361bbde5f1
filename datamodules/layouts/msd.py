"""Medical Segmentation Decathlon, Task07 Pancreas, as unpacked.

    Task07_Pancreas/dataset.json
    Task07_Pancreas/imagesTr/pancreas_001.nii.gz
    Task07_Pancreas/labelsTr/pancreas_001.nii.gz

281 labelled portal venous CTs with lesions; ids 1 pancreas, 2 tumour, which are merged: the tumour is in the
organ. ``imagesTs`` has no labels and is not read. AppleDouble files ``._*`` in the archive are no images.
Antonelli et al., Nature Communications 13:4128 (2022), https://doi.org/10.1038/s41467-022-30695-9; CC BY-SA 4.0.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from datamodules.errors import UsageError
from datamodules.layouts.files import example, inner, nifti_files, paired, stem
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

NAME = re.compile(r"pancreas_\d{3}")


@LAYOUTS.register("msd", target="datamodules.layouts.msd:cases")
@dataclass(kw_only=True)
class MSDSite(SiteConfig):
    """Medical Segmentation Decathlon: dataset.json, imagesTr, labelsTr.

    Attributes:
        labels: pancreas and tumour, merged.
    """

    about: ClassVar[About] = About(
        title="MSD Task07 Pancreas",
        folder="Task07_Pancreas/{imagesTr,labelsTr}/pancreas_001.nii.gz and dataset.json",
        cases=281,
        licence="CC BY-SA 4.0",
        citation="Antonelli et al. 2022, https://doi.org/10.1038/s41467-022-30695-9",
    )

    layout: str = "msd"
    labels: list[int] = field(default_factory=lambda: [1, 2])


def cases(site: MSDSite) -> list[Case]:
    """Every case that dataset.json, imagesTr or labelsTr knows of, sorted by id.

    A case of which the image or the label is missing is among them, so that it is excluded by its name.

    Raises:
        UsageError: no such folder, no readable dataset.json, or no cases.
    """
    root = inner(site.path(), "Task07_Pancreas", has="imagesTr")
    images = nifti_files(root / "imagesTr")
    found = paired(
        {**{name: [] for name in _listed(site, root)}, **images},
        nifti_files(root / "labelsTr"),
        image_at=lambda case: root / "imagesTr" / f"{case}.nii.gz",
        label_at=lambda case: root / "labelsTr" / f"{case}.nii.gz",
    )
    return checked_cases(site, found)


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    folder = inner(root, "Task07_Pancreas", has="imagesTr")
    name = example(folder / "imagesTr", lambda name: NAME.fullmatch(stem(name)))
    return f"there is {folder / 'imagesTr' / name}" if name else None


def _listed(site: MSDSite, root: Path) -> list[str]:
    """Case ids of dataset.json's list ``training``."""
    path = root / "dataset.json"
    if not path.is_file():
        raise UsageError(f"site {site.name!r}: {root} has no dataset.json: is it the unpacked task's own folder?")
    try:
        training: Any = json.loads(path.read_text("utf-8-sig"))["training"]
        names = [entry["image"] if isinstance(entry, dict) else entry for entry in training]
        return [stem(Path(name).name) for name in names if not Path(name).name.startswith(".")]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"site {site.name!r}: {path} has no list 'training' of images as the Decathlon's files have"
        ) from error
