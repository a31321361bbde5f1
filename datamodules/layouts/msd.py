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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.errors import UsageError
from datamodules.layouts.site import LAYOUTS, Case, SiteConfig, checked_cases

SUFFIXES = (".nii.gz", ".nii")


@LAYOUTS.register("msd", target="datamodules.layouts.msd:cases")
@dataclass(kw_only=True)
class MSDSite(SiteConfig):
    """Medical Segmentation Decathlon: dataset.json, imagesTr, labelsTr.

    Attributes:
        labels: pancreas and tumour, merged.
    """

    layout: str = "msd"
    labels: list[int] = field(default_factory=lambda: [1, 2])


def cases(site: MSDSite) -> list[Case]:
    """Every case that dataset.json, imagesTr or labelsTr knows of, sorted by id.

    A case of which the image or the label is missing is among them, so that it is excluded by its name.

    Raises:
        UsageError: no such folder, no readable dataset.json, or no cases.
    """
    root = site.path()
    images, labels = _files(root / "imagesTr"), _files(root / "labelsTr")
    names = sorted({*_listed(site, root), *images, *labels})
    return checked_cases(
        site,
        [
            Case(
                case=name,
                patient=name,
                image=images.get(name, root / "imagesTr" / f"{name}.nii.gz"),
                label=labels.get(name, root / "labelsTr" / f"{name}.nii.gz"),
            )
            for name in names
        ],
    )


def _files(folder: Path) -> dict[str, Path]:
    """NIfTI files by case id."""
    if not folder.is_dir():
        return {}
    files = [path for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIXES)]
    return {_case_id(path.name): path for path in files if not path.name.startswith(".")}


def _listed(site: MSDSite, root: Path) -> list[str]:
    """Case ids of dataset.json's list ``training``."""
    path = root / "dataset.json"
    if not path.is_file():
        raise UsageError(f"site {site.name!r}: {root} has no dataset.json: is it the unpacked task's own folder?")
    try:
        training: Any = json.loads(path.read_text("utf-8-sig"))["training"]
        names = [entry["image"] if isinstance(entry, dict) else entry for entry in training]
        return [_case_id(Path(name).name) for name in names if not Path(name).name.startswith(".")]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"site {site.name!r}: {path} has no list 'training' of images as the Decathlon's files have"
        ) from error


def _case_id(name: str) -> str:
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name
