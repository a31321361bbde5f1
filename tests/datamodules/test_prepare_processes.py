"""Cases side by side: nothing changes by it, and a process that is killed costs what it was at."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import store
from datamodules.errors import UsageError
from datamodules.layouts import Case
from datamodules.layouts.manifest import ManifestSite
from datamodules.pool import Killed, run_all
from datamodules.prepare import KILLED
from tests.datamodules.ct_files import SPACING, abdomen, save, write_site
from tests.datamodules.stored_sites import GRID, prepared, stored_files


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
    found = prepared(site, tmp_path / "store", None, processes=2)
    assert len(found.kept) == 4
    assert found.spacing == SPACING
    expected = prepared(write_site(tmp_path / "other", 4), tmp_path / "store", SPACING)
    assert [case.record.digest for case in found.kept] == [case.record.digest for case in expected.kept]


def test_a_killed_worker_costs_its_own_case_and_nothing_hangs(tmp_path: Path) -> None:
    found = prepared(_made(tmp_path / "site", fatal=True), tmp_path / "store", processes=2)
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
        prepared(site, folder, processes=processes)
    assert stored_files(stores[0]) == stored_files(stores[1])
    for name in stored_files(stores[0]):
        assert (stores[0] / name).read_bytes() == (stores[1] / name).read_bytes()


@dataclass(kw_only=True)
class HaltingSite(ManifestSite):
    """In the middle of writing c1 whoever does it says so in a file, and waits to be killed."""

    note: str = field(default="", metadata={"selects": True})

    def materialise(self, case: Case) -> None:
        """Let c1 be written halfway."""
        if self.note and case.case == "c1":
            store.write_array = self._halfway

    def _halfway(self, path: Path, array: np.ndarray) -> None:
        path.write_bytes(b"half")
        Path(self.note).write_text(str(os.getpid()))
        time.sleep(60)


def _until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("processes", [1, 2])
def test_who_is_killed_in_the_middle_of_a_case_leaves_what_is_whole_and_is_continued(
    tmp_path: Path, processes: int
) -> None:
    site = write_site(tmp_path / "site", 3)
    note = tmp_path / "note"
    halting = HaltingSite(name="here", root=site.root, labels=[7], note=str(note))
    # Not a fork of this process: its workers' server would not be a child of that one.
    context = multiprocessing.get_context("forkserver")
    child = context.Process(target=prepared, args=(halting, tmp_path / "store", GRID), kwargs={"processes": processes})
    child.start()
    _until(lambda: note.exists() and note.read_text())
    child.kill()
    child.join()
    # Whoever was at c1 is gone too: it would hold memory, and write without the lock.
    _until(lambda: not Path(f"/proc/{note.read_text()}").exists())
    (home,) = (tmp_path / "store").glob("here-*")
    assert not list(home.rglob("c1/*"))
    whole = {path.parent.name for path in home.rglob("record.json") if ".part" not in str(path)}
    assert "c1" not in whole

    again = prepared(replace(halting, note=""), tmp_path / "store", processes=processes)
    assert again.reused == len(whole)
    fresh = prepared(site, tmp_path / "fresh")
    for one, other in zip(again.kept, fresh.kept, strict=True):
        assert stored_files(one.folder) == stored_files(other.folder)
        for name in stored_files(one.folder):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


@dataclass(kw_only=True)
class LimitedSite(ManifestSite):
    """The system lets whoever prepares c1 write no more than two kilobytes into a file."""

    def materialise(self, case: Case) -> None:
        """Limit it."""
        if case.case == "c1":
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, most))


def test_a_worker_that_finds_no_room_ends_the_command_with_one_sentence(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 3)
    limited = LimitedSite(name="here", root=site.root, labels=[7])
    with pytest.raises(UsageError, match=r"^the disk of the store .* is full \(File too large\): free some space"):
        prepared(limited, tmp_path / "store", processes=2)
    assert not [path for path in tmp_path.rglob("*.part") if path.is_dir()]
    assert not list(tmp_path.rglob("c1/*"))
    assert prepared(site, tmp_path / "store").excluded == {}
