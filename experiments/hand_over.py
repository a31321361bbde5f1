"""``pansite sites EXPERIMENT --write nnunet DIR``: the experiment's sites as nnU-Net reads them.

    Dataset501_<source>/dataset.json
    Dataset501_<source>/splits_final.json          the experiment's training and validation cases, as nnU-Net's fold 0
    Dataset501_<source>/imagesTr, labelsTr         the source's training and validation cases
    Dataset501_<source>/imagesTs, labelsTs         its test cases and the held-out sites
    Dataset501_<source>/pansite.json               which case each is, with the digest of its voxels

Every case is called ``<site>_<case>``, as ``pansite evaluate --predictions`` looks for it. The folder appears when it
is complete; a command that was killed goes on with what it has.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules import progress
from datamodules.atomic import write_json
from datamodules.errors import UsageError
from datamodules.native import native_label, write_native
from datamodules.split import Split
from datamodules.store import CaseRecord
from datamodules.volume_files import read_volume
from experiments.config import ExperimentConfig
from experiments.configuration import Loaded
from experiments.console import say
from experiments.evaluated_cases import evaluated_cases, tell_excluded
from experiments.signals import SIGNALS

PLAN = "pansite.json"
FIRST_ID, LAST_ID = 501, 599


@dataclass(frozen=True)
class Item:
    """A case that is handed over.

    Attributes:
        name: what it is called there.
        part: ``"Tr"`` or ``"Ts"``.
        record: the prepared case.
    """

    name: str
    part: str
    record: CaseRecord


def write_sites(loaded: Loaded, form: str, folder: Path) -> int:
    """Write the sites of an experiment for another tool.

    Args:
        loaded: the experiment.
        form: ``"nnunet"``.
        folder: where the data set's folder comes, as in ``$nnUNet_raw``.

    Raises:
        UsageError: another form, two cases of one name, or another data set is in the way.
    """
    if form != "nnunet":
        raise UsageError(f"--write: {form!r} is no form that is known; write --write nnunet DIR.")
    config = loaded.config
    source, tested = evaluated_cases(config)
    tell_excluded(tested)
    stored = {case.record.case: case.record for case in source.preparation.kept}
    items = [_item("Tr", stored[case]) for case in (*source.split.train, *source.split.validation)]
    items += [_item("Ts", case.record) for case in tested.cases]
    plan = _plan(config, items)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        target = _target(folder, config.data.source.name)
        if _read(target / PLAN) == plan:
            say(f"{target}: complete already, {len(items)} cases")
        elif target.exists():
            raise UsageError(
                f"{target}: holds other cases or another split than this experiment; move it away, or give another "
                f"folder."
            )
        else:
            _write(target, items, plan, source.split)
            say(f"{target}: {_count(items, 'Tr')} cases to train on, {_count(items, 'Ts')} to test on")
    say(f"nnU-Net's predictions of {target / 'imagesTs'} are judged by `pansite evaluate --predictions DIR EXPERIMENT`")
    return 0


def _item(part: str, record: CaseRecord) -> Item:
    return Item(f"{record.site}_{record.case}", part, record)


def _plan(config: ExperimentConfig, items: list[Item]) -> dict[str, Any]:
    """What the data set's folder will hold."""
    cases: dict[str, dict[str, str]] = {}
    for item in items:
        record = item.record
        if item.name in cases:
            raise UsageError(
                f"site {record.site!r}, case {record.case!r}: site {cases[item.name]['site']!r} has a case that would "
                f"be called {item.name!r} too; give one of the sites another name."
            )
        cases[item.name] = {"site": record.site, "case": record.case, "part": item.part, "digest": record.digest}
    return {"experiment": config.name, "source": config.data.source.name, "cases": cases}


def _target(folder: Path, source: str) -> Path:
    """The data set's folder: the source's own where it is there, else one of a free number."""
    known = {path.name for path in folder.iterdir() if re.fullmatch(r"\.?Dataset\d{3}_.*", path.name)}
    numbers = {int(re.sub(r"^\.?Dataset(\d{3}).*", r"\1", name)) for name in known}
    for number in range(FIRST_ID, LAST_ID + 1):
        name = f"Dataset{number}_{source}"
        if known & {name, _part_of(name)} or number not in numbers:
            return folder / name
    raise UsageError(f"{folder}: has data sets of every number from {FIRST_ID} to {LAST_ID}; give another folder.")


def _part_of(name: str) -> str:
    """What a data set's folder is called until it is complete."""
    return f".{name}.part"


def _write(target: Path, items: list[Item], plan: dict[str, Any], split: Split) -> None:
    part = target.with_name(_part_of(target.name))
    if _read(part / PLAN) != plan:
        shutil.rmtree(part, ignore_errors=True)
    for kind in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (part / kind).mkdir(parents=True, exist_ok=True)
    write_json(part / PLAN, plan)
    with SIGNALS.at_once(), progress.bar(transient=True) as bar:
        for item in bar.track(items, description="writing"):
            image = part / f"images{item.part}" / f"{item.name}_0000.nii.gz"
            label = part / f"labels{item.part}" / f"{item.name}.nii.gz"
            if not image.exists():
                _write_image(image, item.record)
            if not label.exists():
                write_native(label, native_label(item.record), item.record)
    write_json(part / "dataset.json", _description(plan, items))
    names = {item.record.case: item.name for item in items if item.part == "Tr"}
    fold = {"train": [names[case] for case in split.train], "val": [names[case] for case in split.validation]}
    write_json(part / "splits_final.json", [fold])
    part.rename(target)


def _write_image(path: Path, record: CaseRecord) -> None:
    """The original file itself where nnU-Net reads it, else its voxels as NIfTI."""
    original = Path(record.image_path)
    if original.name.endswith(".nii.gz"):
        path.unlink(missing_ok=True)  # a link to where the original was once
        path.symlink_to(original.resolve())
        return
    write_native(path, _compact(read_volume(original)[0]), record)


def _compact(hu: NDArray[Any]) -> NDArray[Any]:
    """HU in 16 bits where that loses nothing."""
    short = hu.astype(np.int16)
    return short if np.array_equal(short, hu) else hu.astype(np.float32)


def _description(plan: dict[str, Any], items: list[Item]) -> dict[str, Any]:
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "pancreas": 1},
        "numTraining": _count(items, "Tr"),
        "file_ending": ".nii.gz",
        "name": plan["source"],
        "description": f"source and held-out sites of the experiment {plan['experiment']}",
    }


def _count(items: list[Item], part: str) -> int:
    return sum(item.part == part for item in items)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder for this process.

    Raises:
        UsageError: another process writes there.
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UsageError(f"{folder}: another process is writing there; wait for it.") from error
    finally:
        os.close(lock)
