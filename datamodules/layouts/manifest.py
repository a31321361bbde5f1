"""A CSV file that names the user's own cases, wherever they lie.

One row a case under the header ``case,image,label[,patient]``::

    case,image,label,patient
    ct01,scans/ct01.nii.gz,masks/ct01.nii.gz,anna
    ct02,dicom/ct02/,masks/ct02.nii.gz,bert

Paths are relative to the CSV. An image is a NIfTI file or a folder with one DICOM series; a label is a NIfTI
file on the image's grid, and may be left out where nothing is learned from it (prediction). Cases of one
patient stay on one side of a split; without the column each case is a patient of its own.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datamodules.errors import UsageError
from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases

REQUIRED, OPTIONAL = ("case", "image"), ("label", "patient")


@LAYOUTS.register("manifest", target="datamodules.layouts.manifest:cases")
@dataclass(kw_only=True)
class ManifestSite(SiteConfig):
    """Cases listed in a CSV file: case,image,label[,patient]; ``root`` is the file."""

    about: ClassVar[About] = About("your own", "a CSV file: case,image,label[,patient]")

    layout: str = "manifest"


def cases(site: ManifestSite) -> list[Case]:
    """The cases of the CSV, sorted by id; files that are missing are named when the case is read.

    Raises:
        UsageError: the CSV is missing, is no UTF-8 text, lacks a column, or has no rows.
    """
    path = site.path()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
            header = rows[0].keys() if rows else _header(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"site {site.name!r}: {path} can't be read as a CSV in UTF-8: {error}") from error
    columns = _columns(site, path, [name for name in header if name is not None])
    return checked_cases(
        site,
        [_case(site, path, number, row, columns) for number, row in enumerate(rows, start=2) if any(row.values())],
    )


def evidence(root: Path) -> str | None:
    """Why a file is a manifest; None where it is none."""
    return f"{root} is a CSV file" if root.is_file() and root.suffix.lower() == ".csv" else None


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file, skipinitialspace=True), [])


def _columns(site: ManifestSite, path: Path, header: list[str]) -> dict[str, str]:
    """The file's own spelling of each column we know."""
    columns = {name.strip().lower(): name for name in header}
    for wanted in REQUIRED:
        if wanted not in columns:
            near = difflib.get_close_matches(wanted, columns, n=1)
            hint = f" (is {columns[near[0]]!r} meant?)" if near else ""
            raise UsageError(
                f"site {site.name!r}: {path} has no column {wanted!r}{hint}; its columns are "
                f"{', '.join(header) or 'none'}, and case,image,label[,patient] are wanted"
            )
    for name in columns:
        near = difflib.get_close_matches(name, OPTIONAL, n=1, cutoff=0.75)
        if near and name not in OPTIONAL and near[0] not in columns:
            raise UsageError(f"site {site.name!r}: {path} has a column {columns[name]!r}: is {near[0]!r} meant?")
    return {name: columns[name] for name in (*REQUIRED, *OPTIONAL) if name in columns}


def _case(site: ManifestSite, path: Path, line: int, row: dict[str, str | None], columns: dict[str, str]) -> Case:
    values = {name: (row.get(column) or "").strip() for name, column in columns.items()}
    for wanted in REQUIRED:
        if not values[wanted]:
            raise UsageError(f"site {site.name!r}: {path}, line {line}, has no {wanted!r}")
    label = values.get("label")
    return Case(
        case=values["case"],
        patient=values.get("patient") or values["case"],
        image=path.parent / Path(values["image"]).expanduser(),
        label=path.parent / Path(label).expanduser() if label else None,
    )
