"""An evaluation goes on where it was: what stands whole is kept, what is half-written or of other weights is not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.run_folder import RunFolder
from tests import kills
from tests.conftest import Tiny
from tests.test_bad_input import short_of_room

pytestmark = pytest.mark.usefixtures("without_pages")

Command = Callable[..., tuple[int, str, str]]
COARSE = "data.spacing=[9,9,9]"


@pytest.fixture(scope="module")
def trained(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is trained and not evaluated; tests copy it."""
    from experiments.cli import main

    root = tmp_path_factory.mktemp("trained")
    assert main(["fit", str(tiny.file), COARSE, f"run.root={root}"]) == 0
    return kills.only_run(root)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "runs" / "tiny" / trained.name)


def stamps(run: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(run.glob(pattern))}


def test_finished_cases_are_kept_with_their_predictions_and_a_half_written_one_is_not(
    run: Path, pansite: Command, tmp_path: Path
) -> None:
    words = ["evaluate", str(run), "predictions=true"]
    death = kills.at_call("callbacks.per_case:write_row", 3)  # its prediction stands, its row does not
    assert kills.live(words, tmp_path / "log.txt", death=death) == -signal.SIGKILL
    done = stamps(run, "evaluation/cases/*/*.json")
    predicted = stamps(run, "predictions/*/*.nii.gz")
    assert (len(done), len(predicted)) == (2, 3)
    code, out, err = pansite(*words)
    assert code == 0, err
    assert "5 cases to evaluate, 3 of them still missing" in out
    assert stamps(run, "evaluation/cases/*/*.json").items() >= done.items()
    kept = {path for path, stamp in stamps(run, "predictions/*/*.nii.gz").items() if predicted.get(path) == stamp}
    assert len(kept) == 2
    assert "none of them still missing" in pansite(*words)[1]


def test_predictions_are_kept_as_long_as_they_are_of_the_weights_and_settings(run: Path, pansite: Command) -> None:
    assert pansite("evaluate", run, "predictions=true")[0] == 0
    predicted = stamps(run, "predictions/*/*.nii.gz")
    # What they are compared by does not alter them.
    assert "5 of them still missing" in pansite("evaluate", run, "tolerance=3")[1]
    assert "none of them still missing" in pansite("evaluate", run, "tolerance=3", "predictions=true")[1]
    assert stamps(run, "predictions/*/*.nii.gz") == predicted
    # The rows are those of these settings, the predictions are not.
    assert pansite("evaluate", run, "overlap=0.1", "predictions=true")[0] == 0
    assert "5 of them still missing" in pansite("evaluate", run)[1]
    assert "5 of them still missing" in pansite("evaluate", run, "predictions=true")[1]


def test_what_a_kill_left_half_written_is_swept_once_nobody_else_works_on_the_run(
    run: Path, tiny: Tiny, pansite: Command
) -> None:
    left = [run / ".metrics.csv.abc.part", run / "checkpoints" / ".last.ckpt.abc.part"]
    judged = [run / "evaluation" / ".per_case.csv.abc.part", run / "predictions" / "north" / ".a.nii.gz.abc.part"]
    for path in (*left, *judged):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    words = ("run", tiny.file, COARSE, f"run.root={run.parents[1]}")
    for work, swept in (("working on", []), ("evaluating", left)):
        holder = hold(run, work)
        try:
            code, _, err = pansite(*words)
            assert code == 2
            assert f"another process is {work} this run" in err
        finally:
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
        assert [path for path in (*left, *judged) if not path.exists()] == swept
    assert pansite(*words)[0] == 0
    assert not list(run.rglob("*.part"))


def hold(run: Path, work: str) -> int:
    """A process that holds the run until it is killed; a worker that it has forked lives on."""
    ready = run / "ready"
    holder = os.fork()
    if holder == 0:
        with RunFolder(run).locked(work):
            if os.fork() == 0:  # as a worker that loads data does
                time.sleep(20)
                os._exit(0)
            ready.touch()
            time.sleep(60)
        os._exit(0)
    while not ready.exists():
        time.sleep(0.01)
    ready.unlink()
    return holder


def test_best_weights_that_found_no_room_are_told_and_last_is_the_way_out(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", tiny.file, COARSE, f"run.root={tmp_path}")
    short_of_room(monkeypatch, "best.ckpt")
    code, _, err = pansite(*words)
    assert code == 2
    assert re.search(r"^warning: .*best\.ckpt: the checkpoint of step 3 could not be written", err, flags=re.M)
    assert re.search(r"the best weights \(val/dice 0\.\d{3} at step \d\) could not be written", err)
    assert "checkpoint=last" in err
    monkeypatch.undo()
    code, out, err = pansite(*words)
    assert code == 2
    assert "trained already, all 6 steps" in out
    assert "could not be written and nothing stands there" in out
    assert "no best.ckpt yet; last.ckpt of step 6 is there: add checkpoint=last" in err
    run = kills.only_run(tmp_path)
    assert "could not be written and nothing stands there" in pansite("checkpoints", run)[1]
    assert pansite("evaluate", run, "checkpoint=last")[0] == 0
