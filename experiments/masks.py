"""Where predictions go, and which are there already: a note in each file tells its weights, settings and image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import CaseError, UsageError
from datamodules.layouts import LAYOUTS
from datamodules.layouts.manifest import ManifestSite
from datamodules.layouts.site import Case
from datamodules.native import read_note, write_native
from datamodules.prepare_case import quick_key
from experiments.ensemble import Prediction

FORMAT = 1
"""Raised whenever the same weights and settings would predict otherwise."""
SIGN = "pansite "
"""How the note of a file that we wrote begins."""


@dataclass(frozen=True)
class Target:
    """An image, and the files of its prediction.

    Attributes:
        case: the image; its id names the files.
        label: of the mask.
        maps: of the uncertainty, by what it is.
    """

    case: Case
    label: Path
    maps: Mapping[str, Path]

    def is_done(self, note: str) -> bool:
        """Whether all files are there, of the weights, settings and image that ``note`` stands for.

        Raises:
            CaseError: a file stands in the way that was not written by this command, perhaps a mask that was corrected.
        """
        for file in (self.label, *self.maps.values()):
            if file.exists() and not read_note(file).startswith(SIGN):
                raise CaseError(
                    f"{self.case.image}: {file} is there and was not written by this command; move it away, or choose "
                    f"another --output"
                )
        return all(read_note(file) == note for file in (self.label, *self.maps.values()))

    def write(self, prediction: Prediction, note: str) -> None:
        """Write all files, the label last."""
        for name, file in self.maps.items():
            write_native(file, prediction.uncertainty[name], prediction.record, note)
        write_native(self.label, prediction.label, prediction.record, note)


def note_of(case: Case, settings: Any) -> str:
    """What a file says of itself: these settings, which name the weights, and this image by its files' sizes and times.

    Args:
        case: the image.
        settings: plain containers.
    """
    parts = [FORMAT, settings, quick_key(case, labelled=False)]
    return SIGN + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def find_targets(images: Sequence[str], output: Path, maps: Sequence[str] = ()) -> list[Target]:
    """The files of each image's prediction; images given twice are taken once.

    Args:
        images: NIfTI files, folders with one DICOM series each, and CSV files that name cases as manifests do.
        output: the folder of the files.
        maps: the uncertainties that are wanted.

    Raises:
        UsageError: two images would have the same file, a file would replace an image, or a CSV can't be read.
    """
    cases = _cases(images)
    given = {case.image.resolve() for case in cases}
    owner: dict[Path, Case] = {}
    targets = []
    for case in cases:
        names = {name: output / f"{case.case}_{name}.nii.gz" for name in maps}
        target = Target(case, output / f"{case.case}.nii.gz", names)
        for file in (target.label, *names.values()):
            if (other := owner.setdefault(file, case)) is not case:
                raise UsageError(
                    f"{case.image}: its mask would be called {file.name}, as that of {other.image}; predict them into "
                    f"two folders, or name them in a CSV (case,image)."
                )
            if file.resolve() in given:
                raise UsageError(f"{case.image}: its mask would replace {_what(file, case)}; choose another --output.")
        targets.append(target)
    return targets


def _cases(images: Sequence[str]) -> list[Case]:
    cases: dict[tuple[str, Path], Case] = {}
    for word in images:
        # Normalised, not resolved: a link's mask is called by the link.
        path = Path(os.path.abspath(Path(word).expanduser()))  # noqa: PTH100
        if path.suffix.lower() == ".csv":
            if not path.is_file():
                raise UsageError(f"{word}: there is no such file; a CSV names images in its columns case,image.")
            site = ManifestSite(name=path.name, root=str(path))
            found: list[Case] = LAYOUTS.build(site)
        else:
            name = path.name.removesuffix(".gz").removesuffix(".nii") or "image"
            found = [Case(name, name, path, None)]
        for case in found:
            cases.setdefault((case.case, case.image), case)
    return list(cases.values())


def _what(file: Path, case: Case) -> str:
    return "it" if file.resolve() == case.image.resolve() else str(file)
