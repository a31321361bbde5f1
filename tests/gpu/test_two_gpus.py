"""What only two CUDA devices can show: gradients over NCCL, and ranks that die while others wait on the device."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import Tiny
from tests.gpu.test_one_gpu import last, losses, run_in

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two CUDA devices"),
]
HOUSE = Path(__file__).parents[2]


def run_command(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    return subprocess.run(
        [sys.executable, *map(str, words)], env=environment, capture_output=True, text=True, timeout=300
    )


def test_two_devices_take_the_steps_of_one_with_the_joined_batch(tiny: Tiny, tmp_path: Path) -> None:
    words = ("fit", tiny.file, "trainer.accelerator=gpu", "trainer.precision=32", "trainer.max_steps=3")
    runs = {}
    for devices in (1, 2):
        root = tmp_path / str(devices)
        done = run_command("-m", "experiments", *words, f"run.root={root}", f"trainer.devices={devices}")
        assert done.returncode == 0, done.stderr
        runs[devices] = run_in(root)
    assert runs[1].name == runs[2].name
    assert losses(runs[2]) == pytest.approx(losses(runs[1]), rel=1e-2)
    one, two = (last(run)["state_dict"] for run in runs.values())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=5e-3, msg=name)


def test_a_killed_rank_ends_one_that_waits_in_nccl(tiny: Tiny, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    words = ("fit", tiny.file, f"run.root={tmp_path}", "trainer.accelerator=gpu", "trainer.devices=2")
    done = run_command(HOUSE / "tests" / "dying_rank.py", "1", "kill", "training_step", mark, *words)
    assert done.returncode == 1
    assert time.time() - float(mark.read_text()) < 40
    assert "error: rank 1 was killed by SIGKILL" in done.stderr
