"""What is in the store is not made again as long as it is what it was."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules import prepare_case
from datamodules.volume_files import read_grid
from tests.datamodules.ct_files import SPACING, abdomen, save, write_site
from tests.datamodules.stored_sites import prepared, stored_files


def _forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("a case was read anew")


def test_headers_are_read_once_and_broken_ones_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write_site(tmp_path / "site", 3)
    (tmp_path / "site" / "c0.nii.gz").write_bytes(b"broken")
    (tmp_path / "site" / "c1_label.nii.gz").unlink()
    found = prepared(site, tmp_path / "store", None)
    assert found.spacing == SPACING
    assert sorted(found.excluded) == ["c0", "c1"]
    looked_at: list[str] = []

    def recorded(path: Path) -> Any:
        looked_at.append(path.name)
        return read_grid(path)

    monkeypatch.setattr("datamodules.volume_files.read_grid", recorded)
    assert prepared(site, tmp_path / "store", None).spacing == SPACING
    assert looked_at == ["c0.nii.gz"]


def test_what_is_there_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write_site(tmp_path / "site", 3)
    (tmp_path / "site" / "c1.nii.gz").write_bytes(b"broken")
    first = prepared(site, tmp_path / "store")
    before = {name: (tmp_path / "store" / name).stat().st_mtime_ns for name in stored_files(tmp_path / "store")}
    monkeypatch.setattr(prepare_case, "read_case", _forbidden)
    again = prepared(site, tmp_path / "store")
    assert again.reused == 2
    assert again.excluded == first.excluded
    assert list(first.excluded) == ["c1"]
    after = {name: (tmp_path / "store" / name).stat().st_mtime_ns for name in stored_files(tmp_path / "store")}
    assert {name for name in before if before[name] != after[name]} == {
        name for name in before if name.endswith("preparation.json")
    }


def test_a_mended_case_comes_in_and_a_removed_one_goes(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 3)
    path = tmp_path / "site" / "c1.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert list(prepared(site, tmp_path / "store").excluded) == ["c1"]
    path.write_bytes(whole)
    assert prepared(site, tmp_path / "store").excluded == {}
    path.unlink()
    assert "c1.nii.gz does not exist" in prepared(site, tmp_path / "store").excluded["c1"]


def test_touched_files_are_hashed_but_not_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write_site(tmp_path / "site", 1)
    first = prepared(site, tmp_path / "store")
    os.utime(tmp_path / "site" / "c0.nii.gz", ns=(1, 1))
    monkeypatch.setattr("datamodules.preprocessing.preprocess", _forbidden)
    again = prepared(site, tmp_path / "store")
    assert again.reused == 1
    assert again.kept[0].record == first.kept[0].record
    monkeypatch.setattr(prepare_case, "read_case", _forbidden)
    assert prepared(site, tmp_path / "store").reused == 1


def test_other_voxels_or_another_patient_replace_a_case(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 1)
    first = prepared(site, tmp_path / "store").kept[0].record
    hu = abdomen(0)[0]
    hu[20, 20, 10] += 5
    save(tmp_path / "site" / "c0.nii.gz", hu)
    second = prepared(site, tmp_path / "store")
    assert second.reused == 0
    assert second.kept[0].record.digest != first.digest
    csv = tmp_path / "site" / "cases.csv"
    csv.write_text(csv.read_text().replace("p0", "p9"))
    third = prepared(site, tmp_path / "store").kept[0].record
    assert third == replace(second.kept[0].record, patient="p9")
    assert not [name for name in stored_files(tmp_path / "store") if ".part" in name]


def test_what_another_process_finishes_while_it_is_looked_at_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write_site(tmp_path / "site", 2)
    folder = prepared(site, tmp_path / "store").folder
    glob = Path.glob
    gone = folder / ".preparation.json.gone.part"
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [*glob(path, pattern), *([gone] * (path == folder))])
    assert prepared(site, tmp_path / "store").reused == 2
