"""What the system does to a preparation is said in one sentence, and nothing half-written is left."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import prepare_case, store
from datamodules.errors import UsageError
from datamodules.layouts import Case
from tests.datamodules.ct_files import write_site
from tests.datamodules.stored_sites import GRID, prepared, stored_files


def test_a_site_that_keeps_no_case_is_one_sentence(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 5)
    for path in (tmp_path / "site").glob("c?.nii.gz"):
        path.write_bytes(b"broken")
    for spacing in (GRID, None):
        with pytest.raises(
            UsageError, match=r"^site 'here': none of its 5 cases can be used: c0: .*; c2: [^;]*$"
        ) as caught:
            prepared(site, tmp_path / "store", spacing)
        assert "\n" not in str(caught.value)


def test_an_unforeseen_fault_of_a_case_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write_site(tmp_path / "site", 2)
    original = prepare_case.read_case

    def fault(case: Case, *rest: Any) -> Any:
        if case.case == "c0":
            raise MemoryError
        if case.case == "c1":
            raise ZeroDivisionError("what nobody thought of")
        return original(case, *rest)

    monkeypatch.setattr(prepare_case, "read_case", fault)
    with pytest.raises(UsageError, match=r"not enough memory.*ZeroDivisionError: what nobody thought of"):
        prepared(site, tmp_path / "store")
    monkeypatch.undo()
    assert prepared(site, tmp_path / "store").excluded == {}  # such reasons are not kept


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "is full (No space left on device): free some space"), (errno.EACCES, "can't be written to")],
)
def test_a_full_disk_or_a_missing_right_is_said_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    site = write_site(tmp_path / "site", 2)
    original = store.write_array

    def full(path: Path, array: np.ndarray) -> None:
        if "c1" in path.parent.name.split(".") and path.name == "distance.b2nd":
            path.write_bytes(b"half")
            raise OSError(number, os.strerror(number))
        original(path, array)

    monkeypatch.setattr(store, "write_array", full)
    with pytest.raises(UsageError) as caught:
        prepared(site, tmp_path / "store")
    assert words in str(caught.value)
    assert str(tmp_path / "store") in str(caught.value)
    folders = {Path(name).parent.name for name in stored_files(tmp_path / "store")}
    assert folders == {"c0"}
    monkeypatch.undo()
    assert prepared(site, tmp_path / "store").reused == 1


def test_a_store_below_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"the store .*file/store can't be written to \(.*\): set data.store"):
        prepared(write_site(tmp_path / "site", 1), tmp_path / "file" / "store")


def test_what_a_killed_process_left_is_cleared_away_after_a_day(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 1)
    folder = prepared(site, tmp_path / "store").folder
    for name, age in (("old", 2e5), ("new", 60)):
        part = folder / f".c0.{name}.part"
        part.mkdir()
        then = part.stat().st_mtime - age
        os.utime(part, (then, then))
    prepared(site, tmp_path / "store")
    assert [path.name for path in folder.glob(".*.part")] == [".c0.new.part"]
