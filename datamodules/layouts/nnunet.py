"""nnU-Net's raw data, versions 1 and 2, such as ``pansite sites EXPERIMENT --write nnunet`` writes.

    Dataset501_Name/dataset.json
    Dataset501_Name/imagesTr/case_0000.nii.gz
    Dataset501_Name/labelsTr/case.nii.gz

and the same in ``imagesTs`` and ``labelsTs``. ``dataset.json`` names the labels: those of the pancreas are found by
their names. Images of more than one channel, or of another modality than CT, are refused.
Isensee et al., Nature Methods 18:203 (2021), https://doi.org/10.1038/s41592-020-01008-z.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from datamodules.errors import UsageError
from datamodules.layouts.files import SUFFIXES, example, nifti_files, paired, stem
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

CHANNEL = "_0000"
FOREIGN = re.compile(r"\b(mri?|t1|t2|t1w|t2w|flair|adc|dwi|pet|us|ultrasound)\b", re.IGNORECASE)
LESIONS = frozenset({"cancer", "tumor", "tumour", "lesion", "pdac", "cyst"})
"""Labels that are in the pancreas where no other organ is labelled."""


@LAYOUTS.register("nnunet", target="datamodules.layouts.nnunet:cases")
@dataclass(kw_only=True)
class NnUNetSite(SiteConfig):
    """nnU-Net raw data: dataset.json, imagesTr/case_0000.nii.gz, labelsTr/case.nii.gz.

    Attributes:
        labels: empty for those that ``dataset.json`` names after the pancreas, and its lesions where no other organ is
            labelled.
        part: the training folders or the test folders.
        prefix: take the cases alone whose names begin so, and leave it off their ids.
    """

    about: ClassVar[About] = About(
        title="nnU-Net raw data",
        folder="Dataset501_Name/{imagesTr/case_0000,labelsTr/case}.nii.gz and dataset.json",
        citation="Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z",
    )

    layout: str = "nnunet"
    labels: list[int] = field(default_factory=list)
    part: Literal["train", "test"] = "train"
    prefix: str = ""

    def settled(self) -> tuple[SiteConfig, list[str]]:
        """With the pancreas' ids by their names.

        Raises:
            UsageError: ``dataset.json`` is not there or names no pancreas, or the images are not of one CT channel.
        """
        description = _description(self)
        if self.labels:
            return self, []
        names = _label_names(self, description)
        chosen = _pancreas(names)
        if not chosen:
            raise UsageError(
                f"site {self.name!r}: {self.path() / 'dataset.json'} names the labels {', '.join(names)} and no "
                f"pancreas among them: set 'labels' of the site"
            )
        ids = sorted({value for name in chosen for value in names[name]})
        return replace(self, labels=ids), [f"labels {', '.join(map(str, ids))}, by their names {', '.join(chosen)}"]


def cases(site: NnUNetSite) -> list[Case]:
    """Every case of which the image or the label is there.

    Raises:
        UsageError: no such folder, no cases, or the images are not of one CT channel.
    """
    root = site.path()
    _description(site)
    part = {"train": "Tr", "test": "Ts"}[site.part]
    images, labels = root / f"images{part}", root / f"labels{part}"
    found = paired(
        nifti_files(images, lambda name: _case_of(site, name)),
        nifti_files(labels, lambda name: _without_prefix(site, stem(name))),
        image_at=lambda case: images / f"{site.prefix}{case}{CHANNEL}.nii.gz",
        label_at=lambda case: labels / f"{site.prefix}{case}.nii.gz",
    )
    return checked_cases(site, found)


def evidence(root: Path) -> str | None:
    """Why a folder is this kind of data; None where it is not."""
    name = example(root / "imagesTr", lambda name: stem(name).endswith(CHANNEL))
    if name is None or not (root / "dataset.json").is_file():
        return None
    return f"there are {root / 'dataset.json'} and {root / 'imagesTr' / name}"


def _case_of(site: NnUNetSite, name: str) -> str | None:
    return _without_prefix(site, stem(name).removesuffix(CHANNEL))


def _without_prefix(site: NnUNetSite, name: str) -> str | None:
    return name.removeprefix(site.prefix) if name.startswith(site.prefix) else None


def _description(site: NnUNetSite) -> dict[str, Any]:
    """``dataset.json``, of images that can be read."""
    path = site.path() / "dataset.json"
    try:
        values = dict(json.loads(path.read_text("utf-8-sig")))
        channels = {str(key): str(name) for key, name in (values.get("channel_names") or values["modality"]).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"site {site.name!r}: {path} can't be read as nnU-Net's dataset.json with 'channel_names' and 'labels'"
        ) from error
    if len(channels) != 1:
        raise UsageError(
            f"site {site.name!r}: its images have {len(channels)} channels ({', '.join(channels.values())}: {path}), "
            f"and one CT is wanted"
        )
    (channel,) = channels.values()
    if FOREIGN.search(channel):
        raise UsageError(f"site {site.name!r}: its images are {channel} ({path}), and CTs are wanted")
    ending = str(values.get("file_ending", SUFFIXES[0]))
    if ending not in SUFFIXES:
        raise UsageError(f"site {site.name!r}: its files end in {ending!r} ({path}), and {SUFFIXES[0]} is wanted")
    return values


def _label_names(site: NnUNetSite, description: dict[str, Any]) -> dict[str, list[int]]:
    """Ids by name; version 1 has names by id."""
    try:
        labels = dict(description["labels"])
        if all(str(key).isdecimal() for key in labels):
            return {str(name): [int(key)] for key, name in labels.items()}
        return {str(name): [int(v) for v in (ids if isinstance(ids, list) else [ids])] for name, ids in labels.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"site {site.name!r}: {site.path() / 'dataset.json'} has no 'labels' with a whole number for each name"
        ) from error


def _pancreas(names: dict[str, list[int]]) -> list[str]:
    """The names that mean the pancreas or something in it."""
    organ = [name for name, ids in names.items() if "pancrea" in name.lower() and any(ids)]
    others = [name for name, ids in names.items() if name not in organ and any(ids) and name.lower() != "ignore"]
    lesions = [name for name in others if name.lower() in LESIONS]
    return organ + lesions if organ and lesions == others else organ
