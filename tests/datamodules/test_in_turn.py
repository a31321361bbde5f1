"""Ranks and jobs that prepare the same site at once take turns, so that each case is prepared once."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from datamodules import prepare as prepare_module
from datamodules.config import StructureConfig
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_case, prepare_site
from tests.datamodules.stored_sites import forked
from tests.datamodules.tiny_site import SPACING, write_site


def prepared(folder: Path, progress: bool = False) -> Preparation:
    return prepare_site(SITES[folder], SPACING, StructureConfig(), folder / "store", progress=progress)


SITES: dict[Path, Any] = {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SITES[tmp_path] = write_site(tmp_path, "site", 3)
    return tmp_path


def test_of_processes_that_come_at_once_one_prepares_and_the_others_find_it_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = folder / "notes"
    notes.touch()

    def noted(task: Any) -> Any:
        with notes.open("a") as file:
            file.write(f"{task.case.case}\n")
        time.sleep(0.1)
        return prepare_case(task)

    monkeypatch.setattr(prepare_module, "prepare_case", noted)
    children = [forked(lambda: 10 + prepared(folder).reused) for _ in range(3)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [10, 13, 13]
    assert sorted(notes.read_text().split()) == ["c0", "c1", "c2"]


def test_who_waits_is_told_and_a_killed_process_keeps_nobody_waiting(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(folder)
    (lock,) = (folder / "store").glob("site-*/.lock")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with lock.open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            os.write(writing, b"held")
            time.sleep(0.5)
            os.kill(os.getpid(), 9)
    os.read(reading, 4)
    assert prepared(folder, progress=True).reused == 3
    assert "waiting for another process that prepares site" in capsys.readouterr().err
    os.waitpid(child, 0)


def test_a_file_system_without_locks_is_no_hindrance(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refused)
    assert len(prepared(folder).kept) == 3


def test_two_that_replace_the_same_cases_at_once_without_locks_do_no_harm(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refused)
    prepared(folder)
    for path in (folder / "site").glob("*_image.nii.gz"):
        image = nib.load(path)
        hu = np.asarray(image.dataobj).copy()
        hu[0, 0, 0] += 1
        nib.save(nib.Nifti1Image(hu, image.affine), path)
    children = [forked(lambda: 10 + len(prepared(folder).kept)) for _ in range(3)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [13, 13, 13]
    assert prepared(folder).reused == 3
    assert not list((folder / "store").rglob("*.part"))
