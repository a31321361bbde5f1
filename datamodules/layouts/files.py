"""What the layouts share in looking through folders; hidden files and AppleDouble's ``._*`` are never among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from datamodules.layouts.site import Case

SUFFIXES = (".nii.gz", ".nii")

Files = Mapping[str, Sequence[Path]]
"""Files by case id: more than one where a case's file is there twice."""


def stem(name: str) -> str:
    """A NIfTI file's name without its ending."""
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def nifti_files(folder: Path, case_id: Callable[[str], str | None] = stem) -> dict[str, list[Path]]:
    """The NIfTI files of a folder by case id; none where there is no such folder.

    Args:
        folder: where they are.
        case_id: the id that a file's name tells, None for a file that is none of these.
    """
    found: dict[str, list[Path]] = {}
    for name in _names(folder, files=True):
        if name.endswith(SUFFIXES) and (case := case_id(name)) is not None:
            found.setdefault(case, []).append(folder / name)
    return found


def folders(root: Path, depth: int) -> Iterator[Path]:
    """A folder and those in it, so many levels down, in the order of their names."""
    yield root
    if depth:
        for name in _names(root, files=False):
            yield from folders(root / name, depth - 1)


def inner(root: Path, *ways: str, has: str) -> Path:
    """The folder that holds ``has``: the root, or what lies below it as archives are unpacked; else the root."""
    places = (root, *(root / way for way in ways))
    return next((place for place in places if (place / has).is_dir()), root)


def paired(
    images: Files,
    labels: Files,
    image_at: Callable[[str], Path],
    label_at: Callable[[str], Path],
    patient: Callable[[str], str] = str,
) -> list[Case]:
    """A case for every id of which an image or a label was found.

    Args:
        images: by case id.
        labels: by case id.
        image_at: where the image of an id would be that has none: it is then left out by its name.
        label_at: the same for a label.
        patient: the patient of a case id.
    """
    cases = []
    for name in sorted({*images, *labels}):
        own = images.get(name) or [image_at(name)], labels.get(name) or [label_at(name)]
        doubled = next((files for files in own if len(files) > 1), None)
        fault = None if doubled is None else f"there are several files of it: {', '.join(map(str, doubled))}"
        cases.append(Case(name, patient(name), own[0][0], own[1][0], fault=fault))
    return cases


def paired_by_name(images: Path, labels: Path) -> list[Case]:
    """A case for every ``<id>.nii.gz`` in a folder of images or in one of labels.

    Args:
        images: its folder; it may be missing.
        labels: the same for labels.
    """
    return paired(
        nifti_files(images),
        nifti_files(labels),
        image_at=lambda case: images / f"{case}.nii.gz",
        label_at=lambda case: labels / f"{case}.nii.gz",
    )


def folder_each(root: Path, image: str, organ: str) -> list[Case]:
    """A case for every folder in ``root`` that holds the file ``image`` or the mask ``organ``."""
    return [Case(name, name, root / name / image, root / name / organ) for name in case_folders(root, image, organ)]


def case_folders(root: Path, *files: str) -> list[str]:
    """The names of the folders in ``root`` that hold one of ``files``."""
    return [name for name in _names(root, files=False) if any((root / name / file).exists() for file in files)]


def example(folder: Path, fits: Callable[[str], object], files: bool = True) -> str | None:
    """The first name in a folder that fits, as evidence of a layout; None where there is none or no such folder."""
    return next((name for name in _names(folder, files) if fits(name)), None)


def _names(folder: Path, files: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir() != files)
    except (FileNotFoundError, NotADirectoryError):
        return []
