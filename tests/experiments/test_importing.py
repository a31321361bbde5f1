"""Importing a command's code leaves the garbage collector idle, and as it was."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.importing import imported

HOUSE = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One that tells whether the collector was at work while it was imported."""
    (tmp_path / "large_one.py").write_text("import gc\ncollecting = gc.isenabled()\nkept = [[]]\n", encoding="utf-8")
    (tmp_path / "broken_one.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "large_one", raising=False)
    return "large_one"


def test_nothing_is_collected_while_a_module_comes_and_the_collector_goes_on_after_it(module: str) -> None:
    assert gc.isenabled()
    assert not imported(module).collecting
    assert gc.isenabled()


def test_what_has_come_is_never_searched_again(module: str) -> None:
    before = gc.get_freeze_count()
    kept = imported(module).kept
    assert gc.get_freeze_count() > before
    assert all(found is not kept for found in gc.get_objects())


def test_a_module_that_is_there_changes_nothing(module: str) -> None:
    first = imported(module)
    gc.unfreeze()
    assert imported(module) is first
    assert gc.get_freeze_count() == 0


def test_a_collector_that_was_off_stays_off(module: str) -> None:
    gc.disable()
    try:
        imported(module)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.usefixtures("module")
def test_a_module_that_fails_leaves_the_collector_at_work() -> None:
    with pytest.raises(ZeroDivisionError):
        imported("broken_one")
    assert gc.isenabled()


def test_training_waits_for_nothing_that_only_comes_after_it_and_loaders_share_what_reads_the_patches() -> None:
    code = "import sys, experiments.flow; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "blosc2" in loaded
    later = {"experiments.evaluation", "experiments.data_card.page", "callbacks.per_case", "wandb", "torchio"}
    assert not (later | {"SimpleITK", "jinja2"}) & loaded
