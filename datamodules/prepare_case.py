"""One case into the store, whole or not at all: read, checked, on the training grid, with its structure."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.atomic import atomic_folder, write_json
from datamodules.errors import CaseError, UnreadableError, UsageError, one_line
from datamodules.layouts.site import Case, SiteConfig
from datamodules.reading import RawCase, read_case
from datamodules.store import CaseRecord, Spacing, write_case
from datamodules.structure import AxisKind
from datamodules.writing import writing

log = logging.getLogger(__name__)

QUICK = "quick.json"


@dataclass(frozen=True)
class Task:
    """What a worker is told: one case and how it is prepared.

    Attributes:
        case: where it lies.
        site: its site.
        spacing: of the stored grid, mm.
        axis: how the head-to-tail axis is found.
        labelled: whether the label is wanted.
        folder: where it goes.
    """

    case: Case
    site: SiteConfig
    spacing: Spacing
    axis: AxisKind
    labelled: bool
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        reason: why it is excluded; None where it is in the store.
        reused: whether what the store held is still right.
        lasting: whether the reason lies in the files, so that it need not be looked for again in the same ones.
        key: the quick key of the files that were read.
    """

    reason: str | None
    reused: bool = False
    lasting: bool = False
    key: str = ""


def quick_key(case: Case, labelled: bool) -> str:
    """A hash of the patient and of the files' paths, sizes, times and readability, which spares reading them."""
    total = hashlib.sha256(f"patient {case.patient}\n".encode())
    if case.fault is not None or (labelled and case.label_flip != "header"):
        total.update(f"{case.fault} {case.label_flip}\n".encode())
    for path in (case.image, *((case.label, *case.more_labels) if labelled else ())):
        for file in [] if path is None else _files(path):
            try:
                status = file.stat()
            except (OSError, ValueError):
                total.update(f"{file}: missing\n".encode("utf-8", "surrogateescape"))
            else:
                readable = os.access(file, os.R_OK)
                known = f"{file}: {status.st_size} {status.st_mtime_ns} {readable}\n"
                total.update(known.encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _files(path: Path) -> list[Path]:
    """A file, or those in a folder; whatever is wrong with the path is said when it is read."""
    try:
        return sorted(path.iterdir()) if path.is_dir() else [path]
    except (OSError, ValueError):
        return [path]


def is_current(task: Task) -> bool:
    """Whether the store already holds the case, by its quick key."""
    return _stored_key(task.folder) == quick_key(task.case, task.labelled)


def prepare_case(task: Task) -> Outcome:
    """Bring a case into the store, unless it is there; runs in a worker.

    Raises:
        UsageError: the store can't be written to.
    """
    try:
        task.site.materialise(task.case)
        key = quick_key(task.case, task.labelled)
        if _stored_key(task.folder) == key:
            return Outcome(None, reused=True, key=key)
        return _prepare(task, key)
    except UnreadableError as error:
        return Outcome(one_line(str(error)))
    except CaseError as error:
        return Outcome(one_line(str(error)), lasting=True, key=quick_key(task.case, task.labelled))
    except UsageError:
        raise
    except MemoryError:
        return Outcome("there is not enough memory to prepare it")
    except Exception as error:  # what else a file provokes is that case's fault and must not stop the others
        log.debug("preparing %s failed", task.case, exc_info=True)
        return Outcome(one_line(f"it could not be prepared ({type(error).__name__}: {error})"))


def _prepare(task: Task, key: str) -> Outcome:
    from datamodules.fingerprint import digest

    raw = read_case(task.case, task.site, task.labelled)
    voxels = raw.image.data[0].numpy()
    label = None if raw.label is None else raw.label.data[0].numpy()
    found = digest(voxels, np.asarray(raw.image.affine), label)
    if _same_voxels(task, found):
        with writing(task.folder.parent):
            write_json(task.folder / QUICK, {"key": key})
        return Outcome(None, reused=True, key=key)
    _store(task, raw, found, key)
    return Outcome(None, key=key)


def _store(task: Task, raw: RawCase, found: str, key: str) -> None:
    from datamodules.descriptions import complete, describe_original
    from datamodules.fingerprint import fingerprint
    from datamodules.preprocessing import preprocess
    from datamodules.structure import axis_coordinate, foreground, signed_distance

    case, image = task.case, raw.image
    grid = preprocess(image, raw.label, task.spacing)
    volume = 0.0 if grid.label is None else float(grid.label.sum()) * float(np.prod(task.spacing)) / 1000
    record = CaseRecord(
        site=task.site.name,
        case=case.case,
        patient=case.patient,
        shape=grid.image.shape,
        spacing=task.spacing,
        affine=grid.affine.tolist(),
        native_shape=image.spatial_shape,
        native_affine=np.asarray(image.affine).tolist(),
        image_path=str(case.image.absolute()),
        label_path=str(case.label.absolute()) if task.labelled and case.label is not None else None,
        more_label_paths=[str(path.absolute()) for path in case.more_labels] if task.labelled else [],
        label_flip=raw.label_flip,
        label_evidence=raw.label_evidence,
        labels=list(task.site.labels) if task.labelled else [],
        digest=found,
        fingerprint=fingerprint(image.data[0].numpy()),
        pancreas_volume_ml=round(volume, 3),
        warnings=raw.warnings,
    )
    distance = axis = places = None
    if grid.label is not None:
        distance = signed_distance(grid.label, task.spacing)
        axis = axis_coordinate(grid.label, grid.affine, task.axis)
        places = foreground(grid.label, axis)
    with writing(task.folder.parent), atomic_folder(task.folder) as part:
        write_case(part, record, grid.image, grid.label, distance, axis, places)
        describe_original(part, image.data[0].numpy(), np.asarray(image.affine))
        complete(part)
        write_json(part / QUICK, {"key": key})
        if _stored_key(task.folder) != key:  # where there are no locks another process may have finished it
            _remove(task.folder)


def _same_voxels(task: Task, found: str) -> bool:
    """Whether the store holds these very voxels from these very paths, whatever their files' times are."""
    try:
        record = CaseRecord.from_dict(json.loads((task.folder / "record.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return False
    label = task.case.label if task.labelled else None
    more = [str(path.absolute()) for path in task.case.more_labels] if task.labelled else []
    here = (str(task.case.image.absolute()), label and str(label.absolute()), more, task.case.patient)
    known = (record.image_path, record.label_path, record.more_label_paths, record.patient)
    return record.digest == found and known == here


def _stored_key(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / QUICK).read_text("utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(folder: Path) -> None:
    """Take an outdated case out of the way at one stroke, then delete it."""
    if folder.exists():
        away = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        with suppress(FileNotFoundError):  # another process was faster, where there are no locks
            folder.rename(away / "old")
        shutil.rmtree(away)
