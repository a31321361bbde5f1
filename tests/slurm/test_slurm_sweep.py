"""A sweep as an array of a real SLURM: what is preempted takes up its own trial, what is killed is repaired."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from experiments.sweep.opened import reopen
from experiments.sweep.study import Study
from tests.conftest import Tiny
from tests.slurm.test_slurm import cluster, log_of, slurm, state, submitted, urgent, wait

__all__ = ["cluster"]

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Command = Callable[..., tuple[int, str, str]]
SWEEP = """
command: [pansite, fit, {tiny}, "${{args_no_hyphens}}"]
method: random
metric: {{name: val/dice, goal: maximize}}
run_cap: 2
parameters:
  model.optimizer.lr: {{distribution: log_uniform_values, min: 0.001, max: 0.1}}
"""


def test_tasks_take_a_trial_each_and_keep_it(cluster: None, tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    file = tmp_path / "rates.yaml"
    file.write_text(SWEEP.format(tiny=tiny.file))
    words = [f"run.root={tmp_path}", "trainer.max_steps=60", "trainer.validate_every=30", "trainer.checkpoint_every=5"]
    job = submitted(pansite, "--sweep", file, "--array", "2%2", *words, "cluster.profiles.default.cpus=1")
    mine, other = f"{job}_0", f"{job}_1"
    folder = tmp_path / "sweeps" / "rates"

    wait("training", lambda: len([*tmp_path.glob("tiny/*/checkpoints/last.ckpt")]) == 2)
    urgent()
    wait("the requeue", lambda: all(state(task) == "PENDING" for task in (mine, other)))
    # One never comes back.
    slurm("scancel", other)
    slurm("scontrol", "update", f"JobId={mine}", "StartTime=now")
    wait("the end", lambda: state(mine) == "COMPLETED")

    log = log_of(tmp_path, mine)
    numbers = re.findall(r"^trial (\d):? .*model\.optimizer\.lr", log, flags=re.M)
    assert len(numbers) == 2
    assert len(set(numbers)) == 1, "its own trial, twice"
    assert "going on from step" in log
    opened = reopen(folder)
    states = {each.number: each.state for each in Study(folder, opened.plan, 0).shown()}
    own, lost = int(numbers[0]), 1 - int(numbers[0])
    assert states == {own: "done", lost: "waiting"}, log
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as on the cluster
    code, out, err = pansite("sweep", folder, "--repair")
    torch.set_num_threads(threads)
    assert code == 0, err
    assert f"trial {lost} again" in out
    assert [each.state for each in Study(folder, opened.plan, 0).shown()] == ["done", "done"]
