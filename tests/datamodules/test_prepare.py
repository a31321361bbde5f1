"""A site comes into the store case by case, whole or not at all, and what is there is not made again."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from ct_files import SPACING, abdomen, affine, save, turned, write_site

from datamodules import prepare_case, store
from datamodules.config import StructureConfig
from datamodules.errors import UsageError
from datamodules.layouts import Case
from datamodules.layouts.manifest import ManifestSite
from datamodules.native import native_label, to_native
from datamodules.pool import Killed, run_all
from datamodules.prepare import KILLED, Preparation, prepare_cases, prepare_site
from datamodules.volume_files import read_grid

GRID = (4.0, 4.0, 5.0)


def _prepare(site: ManifestSite, folder: Path, spacing: Any = GRID, **options: Any) -> Preparation:
    structure = options.pop("structure", StructureConfig())
    return prepare_site(site, spacing, structure, folder, progress=False, **options)


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("a case was read anew")


def test_a_site_is_prepared_with_all_that_training_needs(tmp_path: Path) -> None:
    found = _prepare(write_site(tmp_path / "site", 3), tmp_path / "store")
    assert [case.record.case for case in found.kept] == ["c0", "c1", "c2"]
    assert [case.record.patient for case in found.kept] == ["p0", "p0", "p1"]
    assert (found.excluded, found.reused, found.spacing) == ({}, 0, GRID)
    for case in found.kept:
        shape = case.record.shape
        assert case.image().shape == case.label().shape == case.distance().shape == case.axis().shape == shape
        assert case.image().dtype == np.int16
        assert set(np.unique(case.label())) == {0, 1}
        np.testing.assert_array_equal(case.distance() < 0, case.label() == 1)
        np.testing.assert_array_equal(case.axis() < 255, case.label() == 1)
        assert case.label()[tuple(case.foreground()[:, :3].T)].all()
        assert case.record.labels == [7]
        assert case.record.pancreas_volume_ml == pytest.approx(case.label().sum() * 0.08)
        original = native_label(case.record)
        assert case.record.pancreas_volume_ml == pytest.approx(original.sum() * 0.125, rel=0.25)
        back = to_native(case.label().astype(np.float32), case.record) > 0.5
        assert 2 * (back & (original == 1)).sum() / (back.sum() + original.sum()) > 0.9
    assert len({case.record.digest for case in found.kept}) == 3


def test_the_spacing_of_a_source_is_the_median_of_its_canonical_spacings(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 3)
    for number, edges in enumerate([(1.0, 2.0, 6.0), (3.0, 4.0, 5.0), (2.0, 9.0, 5.12345)]):
        hu, label = abdomen(number)
        codes = ["RAS", "SPL", "LSA"][number]
        for name, array in (("", hu), ("_label", label)):
            save(tmp_path / "site" / f"c{number}{name}.nii.gz", *turned(array, affine(edges), codes))
    found = _prepare(site, tmp_path / "store", None)
    assert found.spacing == (2.0, 4.0, 5.123)


def test_headers_are_read_once_and_broken_ones_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write_site(tmp_path / "site", 3)
    (tmp_path / "site" / "c0.nii.gz").write_bytes(b"broken")
    (tmp_path / "site" / "c1_label.nii.gz").unlink()
    found = _prepare(site, tmp_path / "store", None)
    assert found.spacing == SPACING
    assert sorted(found.excluded) == ["c0", "c1"]
    looked_at: list[str] = []

    def recorded(path: Path) -> Any:
        looked_at.append(path.name)
        return read_grid(path)

    monkeypatch.setattr("datamodules.volume_files.read_grid", recorded)
    assert _prepare(site, tmp_path / "store", None).spacing == SPACING
    assert looked_at == ["c0.nii.gz"]


def test_what_is_there_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write_site(tmp_path / "site", 3)
    (tmp_path / "site" / "c1.nii.gz").write_bytes(b"broken")
    first = _prepare(site, tmp_path / "store")
    before = {name: (tmp_path / "store" / name).stat().st_mtime_ns for name in _files(tmp_path / "store")}
    monkeypatch.setattr(prepare_case, "read_case", _forbidden)
    again = _prepare(site, tmp_path / "store")
    assert again.reused == 2
    assert again.excluded == first.excluded
    assert list(first.excluded) == ["c1"]
    after = {name: (tmp_path / "store" / name).stat().st_mtime_ns for name in _files(tmp_path / "store")}
    assert {name for name in before if before[name] != after[name]} == {
        name for name in before if name.endswith("preparation.json")
    }


def test_a_mended_case_comes_in_and_a_removed_one_goes(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 3)
    path = tmp_path / "site" / "c1.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert list(_prepare(site, tmp_path / "store").excluded) == ["c1"]
    path.write_bytes(whole)
    assert _prepare(site, tmp_path / "store").excluded == {}
    path.unlink()
    assert "c1.nii.gz does not exist" in _prepare(site, tmp_path / "store").excluded["c1"]


def test_touched_files_are_hashed_but_not_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write_site(tmp_path / "site", 1)
    first = _prepare(site, tmp_path / "store")
    os.utime(tmp_path / "site" / "c0.nii.gz", ns=(1, 1))
    monkeypatch.setattr("datamodules.preprocessing.preprocess", _forbidden)
    again = _prepare(site, tmp_path / "store")
    assert again.reused == 1
    assert again.kept[0].record == first.kept[0].record
    monkeypatch.setattr(prepare_case, "read_case", _forbidden)
    assert _prepare(site, tmp_path / "store").reused == 1


def test_other_voxels_or_another_patient_replace_a_case(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 1)
    first = _prepare(site, tmp_path / "store").kept[0].record
    hu = abdomen(0)[0]
    hu[20, 20, 10] += 5
    save(tmp_path / "site" / "c0.nii.gz", hu)
    second = _prepare(site, tmp_path / "store")
    assert second.reused == 0
    assert second.kept[0].record.digest != first.digest
    csv = tmp_path / "site" / "cases.csv"
    csv.write_text(csv.read_text().replace("p0", "p9"))
    third = _prepare(site, tmp_path / "store").kept[0].record
    assert third == replace(second.kept[0].record, patient="p9")
    assert not [name for name in _files(tmp_path / "store") if ".part" in name]


def test_settings_have_folders_of_their_own(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 1)
    folders = {
        _prepare(other, tmp_path / "store", **options).folder
        for other, options in [
            (site, {}),
            (site, {"spacing": (3.0, 3.0, 3.0)}),
            (site, {"structure": StructureConfig(axis="none")}),
            (site, {"labelled": False}),
            (replace(site, labels=[5]), {}),
            (replace(site, name="there"), {}),
        ]
    }
    assert len(folders) == 6


def test_without_labels_a_case_is_an_image(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 1)
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    (tmp_path / "site" / "c0_label.nii.gz").unlink()
    case = _prepare(site, tmp_path / "store", labelled=False).kept[0]
    assert not case.labelled
    assert case.record.label_path is None
    assert case.record.pancreas_volume_ml == 0


def test_given_cases_are_prepared_without_a_layout(tmp_path: Path) -> None:
    path = save(tmp_path / "någon bild.nii.gz", abdomen()[0])
    site = ManifestSite(name="predict")
    found = prepare_cases(
        site, [Case("någon bild", "x", path, None)], GRID, StructureConfig(), tmp_path / "store", labelled=False,
        progress=False,
    )  # fmt: skip
    assert found.kept[0].folder.name == "någon bild"


# --- faults -------------------------------------------------------------------------------------------------


def _break_everything(site: Path) -> dict[str, str]:
    """Spoil c1 … c9 in nine ways; what is said of each."""
    hu, label = abdomen()
    (site / "c1.nii.gz").unlink()
    (site / "c2_label.nii.gz").unlink()
    (site / "c3.nii.gz").write_bytes((site / "c3.nii.gz").read_bytes()[:900])
    save(site / "c4_label.nii.gz", label[:-2])
    save(site / "c5_label.nii.gz", (label == 5).astype(np.uint8))
    save(site / "c6_label.nii.gz", np.zeros_like(label))
    save(site / "c7.nii.gz", np.where(hu == hu.max(), np.nan, hu).astype(np.float32))
    save(site / "c8.nii.gz", np.stack([hu, hu], -1))
    save(site / "c9.nii.gz", hu.clip(0, 300))
    return {
        "c1": "does not exist", "c2": "does not exist", "c3": "damaged or cut off", "c4": "another grid",
        "c5": "none of the wanted ids", "c6": "is empty", "c7": "NaN", "c8": "4-D", "c9": "not a CT",
    }  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2])
def test_every_broken_case_is_named_with_its_reason_and_the_rest_goes_on(tmp_path: Path, processes: int) -> None:
    site = write_site(tmp_path / "site", 11)
    reasons = _break_everything(tmp_path / "site")
    found = _prepare(site, tmp_path / "store", processes=processes)
    assert [case.record.case for case in found.kept] == ["c0", "c10"]
    assert sorted(found.excluded) == sorted(reasons)
    for case, words in reasons.items():
        assert words in found.excluded[case]
        assert "\n" not in found.excluded[case]
    report = json.loads((found.folder / "preparation.json").read_text("utf-8"))
    assert {case: entry["reason"] for case, entry in report["excluded"].items()} == found.excluded
    assert list(report["kept"]) == ["c0", "c10"]
    assert sorted(path.name for path in found.folder.iterdir()) == ["c0", "c10", "preparation.json"]


def test_a_site_that_keeps_no_case_is_one_sentence(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 5)
    for path in (tmp_path / "site").glob("c?.nii.gz"):
        path.write_bytes(b"broken")
    for spacing in (GRID, None):
        with pytest.raises(
            UsageError, match=r"^site 'here': none of its 5 cases can be used: c0: .*; c2: [^;]*$"
        ) as caught:
            _prepare(site, tmp_path / "store", spacing)
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
        _prepare(site, tmp_path / "store")
    monkeypatch.undo()
    assert _prepare(site, tmp_path / "store").excluded == {}  # such reasons are not kept


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
        _prepare(site, tmp_path / "store")
    assert words in str(caught.value)
    assert str(tmp_path / "store") in str(caught.value)
    folders = {Path(name).parent.name for name in _files(tmp_path / "store")}
    assert folders == {"c0"}
    monkeypatch.undo()
    assert _prepare(site, tmp_path / "store").reused == 1


def test_a_store_below_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"the store .*file/store can't be written to \(.*\): set data.store"):
        _prepare(write_site(tmp_path / "site", 1), tmp_path / "file" / "store")


def test_what_a_killed_process_left_is_cleared_away_after_a_day(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 1)
    folder = _prepare(site, tmp_path / "store").folder
    for name, age in (("old", 2e5), ("new", 60)):
        part = folder / f".c0.{name}.part"
        part.mkdir()
        then = part.stat().st_mtime - age
        os.utime(part, (then, then))
    _prepare(site, tmp_path / "store")
    assert [path.name for path in folder.glob(".*.part")] == [".c0.new.part"]


@dataclass(kw_only=True)
class MadeSite(ManifestSite):
    """A site whose files are made when they are needed; the worker that makes c1 is killed."""

    fatal: bool = False

    def materialise(self, case: Case) -> None:
        if self.fatal and case.case == "c1":
            os.kill(os.getpid(), signal.SIGKILL)
        if not case.image.exists():
            hu, label = abdomen(int(case.case[1:]))
            save(case.image, hu)
            assert case.label is not None
            save(case.label, label)


def _made(folder: Path, **options: Any) -> MadeSite:
    folder.mkdir()
    rows = [f"c{k},c{k}.nii.gz,c{k}_label.nii.gz" for k in range(4)]
    (folder / "cases.csv").write_text("\n".join(["case,image,label", *rows]))
    return MadeSite(name="made", root=str(folder / "cases.csv"), labels=[7], **options)


def test_files_that_are_made_are_made_before_they_are_read(tmp_path: Path) -> None:
    site = _made(tmp_path / "site")
    found = _prepare(site, tmp_path / "store", None, processes=2)
    assert len(found.kept) == 4
    assert found.spacing == SPACING
    expected = _prepare(write_site(tmp_path / "other", 4), tmp_path / "store", SPACING)
    assert [case.record.digest for case in found.kept] == [case.record.digest for case in expected.kept]


def test_a_killed_worker_costs_its_own_case_and_nothing_hangs(tmp_path: Path) -> None:
    found = _prepare(_made(tmp_path / "site", fatal=True), tmp_path / "store", processes=2)
    assert [case.record.case for case in found.kept] == ["c0", "c2", "c3"]
    assert found.excluded == {"c1": KILLED}


def _double_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 100:
        raise UsageError("a sentence")
    return 2 * number


def test_the_pool_gives_every_item_an_answer() -> None:
    results = dict(run_all(_double_or_die, range(6), processes=2))
    assert isinstance(results.pop(3), Killed)
    assert results == {0: 0, 1: 2, 2: 4, 4: 8, 5: 10}


@pytest.mark.parametrize("processes", [1, 2])
def test_the_pool_hands_on_what_the_work_raises(processes: int) -> None:
    with pytest.raises(UsageError, match="a sentence"):
        list(run_all(_double_or_die, [1, 100, 2], processes))


def test_a_users_script_needs_no_guard_to_prepare_in_processes(tmp_path: Path) -> None:
    write_site(tmp_path / "site", 2)
    script = tmp_path / "script.py"
    script.write_text(f"""
from pathlib import Path
from datamodules.config import StructureConfig
from datamodules.layouts.manifest import ManifestSite
from datamodules.prepare import prepare_site
site = ManifestSite(name="here", root={str(tmp_path / "site" / "cases.csv")!r}, labels=[7])
found = prepare_site(site, (5, 5, 5), StructureConfig(), Path({str(tmp_path / "store")!r}), processes=2)
print(len(found.kept), found.excluded)
""")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == "2 {}\n", ended.stderr


def test_processes_change_nothing_in_the_store(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 3)
    stores = [tmp_path / "one", tmp_path / "two"]
    for folder, processes in zip(stores, (1, 2), strict=True):
        _prepare(site, folder, processes=processes)
    assert _files(stores[0]) == _files(stores[1])
    for name in _files(stores[0]):
        assert (stores[0] / name).read_bytes() == (stores[1] / name).read_bytes()


# --- real files ----------------------------------------------------------------------------------------------

REAL = os.environ.get("PANSITE_TEST_DATA")


@pytest.mark.skipif(REAL is None, reason="PANSITE_TEST_DATA is not set: no real CTs here")
def test_a_manifest_of_real_files_keeps_the_cts_and_refuses_the_mr(tmp_path: Path) -> None:
    folder = Path(REAL or ".") / "totalsegmentator"
    rows = [
        f"ct,{folder}/example_ct.nii.gz,{folder}/example_seg_fast_force_split.nii.gz",
        f"dicom,{folder}/example_ct_dicom,{folder}/example_seg_dicom.nii.gz",
        f"mr,{folder}/example_mr_sm.nii.gz,{folder}/example_seg_mr.nii.gz",
    ]
    (tmp_path / "cases.csv").write_text("\n".join(["case,image,label", *rows]))
    site = ManifestSite(name="real", root=str(tmp_path / "cases.csv"), labels=[7])
    found = _prepare(site, tmp_path / "store", (3.0, 3.0, 3.0))
    assert [case.record.case for case in found.kept] == ["ct", "dicom"]
    assert "no air near −1000 HU" in found.excluded["mr"]
    assert found.kept[0].record.pancreas_volume_ml == pytest.approx(695 * 0.027, rel=0.01)
    dicom = found.kept[1].record
    assert dicom.native_shape == (512, 512, 20)
    assert dicom.warnings == ["the label touches the volume's border: the organ may be cut off"]
    # The stored label lies, in the world, where the label's own file has it.
    original = nib.load(folder / "example_seg_dicom.nii.gz")
    expected = nib.affines.apply_affine(original.affine, np.argwhere(np.asarray(original.dataobj) == 7)).mean(0)
    stored = nib.affines.apply_affine(np.array(dicom.affine), np.argwhere(found.kept[1].label())).mean(0)
    assert np.linalg.norm(stored - expected) < 1.5


def test_what_another_process_finishes_while_it_is_looked_at_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write_site(tmp_path / "site", 2)
    folder = _prepare(site, tmp_path / "store").folder
    glob = Path.glob
    gone = folder / ".preparation.json.gone.part"
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [*glob(path, pattern), *([gone] * (path == folder))])
    assert _prepare(site, tmp_path / "store").reused == 2
