"""What a run folder says of itself: damage is one sentence with the file, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from callbacks.inexact import read_inexact
from datamodules.errors import UsageError
from experiments.location import location_prior_dice
from experiments.run_folder import RunFolder


@pytest.mark.parametrize(
    ("name", "read", "way_out"),
    [
        ("split.json", RunFolder.read_split, "restore it from a copy, or fit the experiment afresh"),
        ("evaluation/excluded.json", RunFolder.read_excluded, "evaluate the run again"),
        ("overlap.json", RunFolder.read_leaks, "restore it: it says which scans of its source"),
        ("inexact.json", lambda run: read_inexact(run.inexact), "restore it: it says where the run is not exact"),
    ],
)
def test_a_damaged_file_is_told_with_the_way_out(
    tmp_path: Path, name: str, read: Callable[[RunFolder], object], way_out: str
) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / name).write_text('{"tra')
    with pytest.raises(UsageError, match=rf"{name}: not readable JSON .*; {way_out}"):
        read(RunFolder(tmp_path))


def test_a_run_without_the_files_that_not_every_run_has_says_nothing_by_them(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert (run.read_leaks(), read_inexact(run.inexact), run.is_outside()) == ([], [], False)


def test_a_damaged_answer_of_the_location_prior_is_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.location.LocationPrior.fit", lambda training: None)
    file = tmp_path / "location_prior.json"
    for damage in ("", "[]", '{"dice": {}}'):
        file.write_text(damage)
        assert location_prior_dice(file, [], []) == {}
        assert '"key"' in file.read_text()
