"""Fewer devices today: refused with the difference, or done all the same and said for ever."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from callbacks.checkpoint_io import previous, read_checkpoint
from tests import kills
from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]
ALIKE = ("data.batch_size=2", "data.spacing=[9,9,9]")


@pytest.fixture(scope="module")
def halfway(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a run of one rank that was killed after step 4 of 6."""
    root = tmp_path_factory.mktemp("halfway")
    death = kills.at_call(f"{kills.MODULE}.training_step", 5)
    code = kills.live(["run", str(tiny.file), *ALIKE, f"run.root={root}"], root / "log.txt", death=death)
    assert code == -signal.SIGKILL, (root / "log.txt").read_text()
    return root


def test_what_differs_is_refused_before_anything_is_touched(
    halfway: Path, tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    root = shutil.copytree(halfway, tmp_path / "runs")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    words = ("run", tiny.file, *ALIKE, f"run.root={root}")
    code, _, err = pansite(*words, "trainer.devices=2")
    assert code == 2
    assert "was 1 rank, is 2;" in err
    assert "--inexact" in err
    code, _, err = pansite(*words, "trainer.channels_last=false", "trainer.deterministic=true")
    assert code == 2
    assert "was channels_last true, is false; was deterministic false, is true" in err
    assert {path: path.read_bytes() for path in before} == before


def test_threads_are_compared_once_they_are_known(
    halfway: Path, tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(halfway, tmp_path / "runs")
    monkeypatch.setattr("callbacks.conditions.torch.get_num_threads", lambda: 3)
    code, _, err = pansite("run", tiny.file, *ALIKE, f"run.root={root}")
    assert code == 2
    assert "was 1 thread a rank, is 3" in err
    assert err.count("error:") == 1


def test_inexact_goes_on_and_the_run_says_so_wherever_it_is_shown(
    halfway: Path, tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    root = shutil.copytree(halfway, tmp_path / "runs")
    words = ("run", tiny.file, *ALIKE, f"run.root={root}", "trainer.channels_last=false")
    code, out, err = pansite(*words, "--inexact")
    assert code == 0, err
    said = "inexactly from step 4 (was channels_last true, is false; "
    assert out.count(said) == 2, "when it goes on, and beside the results"
    run = kills.only_run(root)
    (entry,) = json.loads((run / "inexact.json").read_text())
    assert entry["step"] == 4
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["callbacks"]["ConditionsGuard"]["inexact"] == [entry]
    assert json.loads((run / "evaluation" / "summary.json").read_text())["checkpoint"]["inexact"] == [entry]
    (run / "evaluation" / "report.html").unlink()
    assert pansite("report", run)[0] == 0
    assert said in (run / "evaluation" / "report.html").read_text()
    assert said in pansite("checkpoints", run)[1]
    assert said in pansite("evaluate", run, "checkpoint=last")[1]
    assert said in pansite(*words)[1], "trained already"


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "saved"), [(1, 5), (2, 4)])
def test_minutes_by_the_clock_save_each_step_alone_and_each_logged_step_of_several_ranks(
    ranks: int, saved: int, tiny: Tiny, tmp_path: Path
) -> None:
    words = ["fit", str(tiny.file), *ALIKE, f"run.root={tmp_path / 'runs'}", f"trainer.devices={ranks}"]
    clock = ["trainer.checkpoint_minutes=1e-6", "trainer.checkpoint_every=100", "trainer.log_every=4"]
    code = kills.live([*words, *clock, "trainer.validate_every=6"], tmp_path / "log.txt", ranks=ranks)
    assert code == 0, (tmp_path / "log.txt").read_text()
    last = kills.only_run(tmp_path / "runs") / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] == 6
    assert read_checkpoint(previous(last))["global_step"] == saved


def test_minutes_of_nothing_are_refused(tiny: Tiny, pansite: Command) -> None:
    code, _, err = pansite("config", "check", tiny.file, "trainer.checkpoint_minutes=0")
    assert code == 2
    assert "trainer.checkpoint_minutes: must be greater than 0, not 0" in err


@pytest.mark.slow
def test_one_rank_does_not_take_up_what_two_have_begun_unless_it_is_told_to(
    tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    words = ["run", str(tiny.file), *ALIKE, f"run.root={tmp_path / 'runs'}"]
    death = kills.at_call(f"{kills.MODULE}.training_step", 5)
    two = [*words, "trainer.devices=2"]
    assert kills.live(two, tmp_path / "log.txt", ranks=2, death=death) == -signal.SIGKILL
    torch.set_num_threads(1)
    code, _, err = pansite(*words)
    assert code == 2
    assert "was 2 ranks, is 1;" in err
    code, out, err = pansite(*words, "--inexact")
    assert code == 0, err
    assert "was 2 ranks, is 1;" in out
    assert read_checkpoint(previous(kills.only_run(tmp_path / "runs") / "checkpoints" / "last.ckpt"))
