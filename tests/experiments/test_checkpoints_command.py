"""``pansite checkpoints`` tells what a run can go on from."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import kills
from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from experiments.cli import main

    root = tmp_path_factory.mktemp("trained")
    assert main(["fit", str(tiny.file), "data.spacing=[9,9,9]", f"run.root={root}"]) == 0
    return kills.only_run(root)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def table(out: str) -> dict[str, list[str]]:
    """Cells of each row, by the file's name."""
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in out.splitlines() if "│" in line]
    return {cells[0]: cells[1:] for cells in rows}


def test_each_is_told_with_step_metric_size_and_what_would_take_it(run: Path, pansite: Command) -> None:
    code, out, err = pansite("checkpoints", run)
    assert code == 0, err
    rows = table(out)
    assert set(rows) == {"last.ckpt", "last.prev.ckpt", "best.ckpt"} | ({"best.prev.ckpt"} & set(rows))
    step, metric, size, written, loads, use = rows["last.ckpt"]
    assert (step, loads, use) == ("6", "yes", "resume")
    assert re.fullmatch(r"0\.\d{4}", metric)
    assert float(size) > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", written)
    assert rows["last.prev.ckpt"][0] == "4"
    assert rows["last.prev.ckpt"][1] == "–", "nothing was validated at step 4"
    assert rows["best.ckpt"][5] == "evaluate"


def test_a_damaged_one_says_why_and_the_one_before_it_takes_its_place(run: Path, pansite: Command) -> None:
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    code, out, _ = pansite("checkpoints", run)
    assert code == 2
    rows = table(out)
    assert rows["last.ckpt"][4].startswith("can't be loaded as a checkpoint")
    assert rows["last.ckpt"][0] == "–"
    assert rows["last.prev.ckpt"][5] == "resume"


def test_another_version_is_named(run: Path, pansite: Command) -> None:
    path = run / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["pansite_version"] = "0.0.1"
    torch.save(content, path)
    assert table(pansite("checkpoints", run)[1])["best.ckpt"][4] == "yes, of Pansite 0.0.1"


def test_without_any_the_way_out_is_told(run: Path, pansite: Command) -> None:
    shutil.rmtree(run / "checkpoints")
    code, _, err = pansite("checkpoints", run)
    assert code == 2
    assert "no checkpoint yet; train the run with `pansite fit`" in err


def test_resume_says_what_does_not_fit(trained: Path, tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "runs" / "tiny" / trained.name)
    for path in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        content["global_step"], content["pansite_version"] = 4, "0.0.1"
        content["state_dict"].pop(next(iter(content["state_dict"])))
        torch.save(content, path)
    code, _, err = pansite("fit", tiny.file, "data.spacing=[9,9,9]", f"run.root={tmp_path / 'runs'}")
    assert code == 2
    assert "1 weight differs, as " in err
    assert "written by Pansite 0.0.1, read by" in err
    assert "--fresh" in err
