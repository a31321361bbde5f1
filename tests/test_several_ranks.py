"""Ranks that train and evaluate as one, and end as one."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from datamodules import SingleSourceDataModule
from experiments.configuration import load_experiment
from experiments.locate import find_experiment
from experiments.ranks import strategy
from experiments.run_folder import RunFolder
from experiments.training import build_trainer
from lightning_modules import DualSSLModule, Preprocessing
from lightning_modules.loading import load_module
from lightning_modules.schedules import Progress
from tests import launched
from tests.conftest import Tiny
from tests.dying_rank import arrange
from tests.kills import live, only_run
from tests.lightning_modules.ellipsoid_patches import ellipsoid_batch
from tests.test_shipped_experiments import EXPERIMENTS, SMALL

Command = Callable[..., tuple[int, str, str]]
HOUSE = Path(__file__).parents[1]
STEPS = 100


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_shipped_experiment_leaves_a_parameter_unused_or_lets_ddp_search_for_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANSITE_DATA", str(tmp_path))
    torch.set_num_threads(1)
    few = ["model.skeleton.stride=4"] if "skeleton" in name else []
    config = load_experiment(find_experiment(f"experiments/{name}"), [*SMALL, *few]).config
    batch = ellipsoid_batch(2, 32, 6.0)
    if getattr(config.data.augmentation, "views", 1) == 2:
        batch = batch._replace(second=1 - batch.image)
    module = DualSSLModule(config.model, Preprocessing((6.0,) * 3, config.data.window, (32,) * 3), config.seed)
    for step in (0, STEPS // 2, STEPS - 1):  # ramps begin at the first of them, and fades end at the last
        module.zero_grad(set_to_none=True)
        module.losses(batch, Progress(step, STEPS)).total.backward()
        unused = [key for key, weight in module.named_parameters() if weight.requires_grad and weight.grad is None]
        assert unused == [], step
    two = replace(config.trainer, devices=2)
    trainer = build_trainer(replace(config, trainer=two), RunFolder(tmp_path))
    assert trainer.strategy._ddp_kwargs["find_unused_parameters"] is False  # type: ignore[attr-defined]  # DDP's own
    assert strategy(config.trainer) == "auto"


@pytest.mark.slow
def test_two_ranks_evaluate_to_the_very_bytes_of_one(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    """Five cases, and then one case alone, so that one rank has none."""
    code, _, err = pansite(
        "run", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=2", "evaluation.predictions=true"
    )
    assert code == 0, err
    (run,) = (path.parent for path in tmp_path.glob("tiny/*/config.yaml"))
    alone = tmp_path / "alone"
    shutil.copytree(run, alone)
    shutil.rmtree(run / "evaluation")
    shutil.rmtree(run / "predictions")
    for expected in ("5 cases to evaluate, 5 of them", "5 cases to evaluate, 1 of them"):
        words = ["evaluate", run, "trainer.devices=2", "predictions=true"]
        code, out, err = launched.run(words, tmp_path)
        assert code == 0, err
        assert expected in out
        assert out.count("report: ") == 1
        for name in ("per_case.csv", "summary.json", "excluded.json"):
            assert (run / "evaluation" / name).read_bytes() == (alone / "evaluation" / name).read_bytes(), name
        masks = sorted(path.relative_to(alone) for path in alone.glob("predictions/*/*.nii.gz"))
        assert len(masks) == 5
        assert [path for path in masks if (run / path).read_bytes() != (alone / path).read_bytes()] == []
        next((run / "evaluation" / "cases" / "west").glob("*.json")).unlink()


KILLED = "was killed by SIGKILL (as the kernel does when memory runs out); all ranks have ended, and the same command"
HARMS = {
    "rank 1 is killed in training": ("1", "kill", "training_step", 1, f"error: rank 1 {KILLED}"),
    "rank 0 is killed in training": ("0", "kill", "training_step", -9, "error: the first rank was killed"),
    "rank 1 is killed in validation": ("1", "kill", "validation_step", 1, f"error: rank 1 {KILLED}"),
    "rank 1 is killed in the evaluation": ("1", "kill", "test_step", 1, f"error: rank 1 {KILLED}"),
    "rank 1 has a fault": ("1", "raise", "training_step", 1, "ValueError: a fault of its own"),
    "rank 1 finds a mistake": ("1", "complain", "training_step", 2, "error: a mistake of its own"),
    "rank 0 finds a mistake": ("0", "complain", "training_step", 2, "error: a mistake of its own"),
    "rank 1 is frozen": ("1", "freeze", "training_step", 1, "error: the ranks do not answer one another any more"),
}


BY_THE_COMMAND = ("rank 0 is killed in training", "rank 1 is killed in training")
"""Whose ranks are interpreters, as a user's are; of the others they are forks, with the imports done."""


@pytest.mark.slow
@pytest.mark.parametrize("name", HARMS)
def test_when_a_rank_comes_to_harm_all_end_soon_and_one_tells_why(name: str, tiny: Tiny, tmp_path: Path) -> None:
    rank, harm, method, code, sentence = HARMS[name]
    mark, err = tmp_path / "mark", tmp_path / "err"
    command = "run" if method == "test_step" else "fit"
    words = [command, str(tiny.file), f"run.root={tmp_path}", "trainer.devices=2", "trainer.validate_every=1"]
    if method == "test_step":
        words.append("trainer.max_steps=2")
    if harm == "freeze":
        words.append("trainer.timeout=0.3")
    process: subprocess.Popen[bytes] | launched.Forked
    if name in BY_THE_COMMAND:
        process = subprocess.Popen(
            [sys.executable, HOUSE / "tests" / "dying_rank.py", rank, harm, method, mark, *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOUSE)},
            stdout=subprocess.DEVNULL, stderr=err.open("w"), start_new_session=True,
        )  # fmt: skip
    else:
        harmed = partial(arrange, rank, harm, method, mark)
        process = launched.launch(words, tmp_path / "out", err, prepare=harmed)
    assert process.wait(timeout=180) == code
    deadline = time.time() + 20
    while time.time() < deadline and _lives(process.pid):
        time.sleep(0.1)
    ended = time.time()
    assert not _lives(process.pid), "a rank is left behind"
    told = err.read_text()
    assert ended - float(mark.read_text()) < (60 if harm == "freeze" else 25)
    assert told.count("error: ") + told.count("Traceback (most recent call last)") == 1, told
    assert sentence in told


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ranks_beyond_the_validation_cases_judge_the_weights_as_one_rank_does(tiny: Tiny, tmp_path: Path) -> None:
    """Two cases on three ranks: the third repeats the first one's case, which counts once all the same."""
    words = ["trainer.max_steps=2", "trainer.validate_every=1", "trainer.precision=32", "data.batch_size=3"]
    log = tmp_path / "log"
    command = ["fit", str(tiny.file), *words, "trainer.devices=3", f"run.root={tmp_path}"]
    assert live(command, log, ranks=3) == 0, log.read_text()
    run = only_run(tmp_path)
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["callbacks"]["BestCheckpoint"]
    with (run / "metrics.csv").open(newline="") as file:
        shown = {int(row["step"]): float(row["val/dice"]) for row in csv.DictReader(file) if row["val/dice"]}
    assert sorted(shown) == [1, 2]
    assert best["score"] == max(shown.values())
    alone = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    data = SingleSourceDataModule(load_experiment(run / "config.yaml").config.data.training())
    (judged,) = alone.validate(load_module(run / "checkpoints" / "best.ckpt"), datamodule=data, verbose=False)
    assert len(data.split.validation) == 2
    assert judged["val/dice"] == best["score"]
