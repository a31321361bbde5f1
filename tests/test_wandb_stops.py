"""Runs that a signal ends, as Weights & Biases sees them by its real client: told of, and taken up again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from wandb.sdk.lib.module import unset_globals

from datamodules.batch import PatchBatch
from experiments import wandb_run
from lightning_modules.dual_ssl import DualSSLModule
from tests.conftest import Tiny
from tests.kills import only_run
from tests.wandb_server import ENTITY, KEY, WandbServer

Command = Callable[..., tuple[int, str, str]]
HOUSE = Path(__file__).parents[1]
SWEEP, RUN = "sweep1", "sweep1r1"


class StoppingServer(WandbServer):
    """Has one run for an agent, and then stops it.

    Args:
        command: of the sweep.
        started: whether the run is far enough to be stopped.

    Attributes:
        said: of the runs' streams, what is no line of a file, in order.
    """

    def __init__(self, command: list[str], started: Callable[[], bool]) -> None:
        super().__init__()
        self.said: list[dict[str, Any]] = []
        self._command = command
        self._started = started
        self._given = False

    def query(self, text: str, variables: dict[str, Any]) -> dict[str, Any]:
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "sweep(sweepName": lambda: {"project": {"sweep": self._sweep()}},
            "createAgent": lambda: {"createAgent": {"agent": {"id": "agent1"}}},
            "agentHeartbeat": lambda: self._heartbeat(json.loads(variables.get("runState") or "{}")),
        }
        for sign, answer in answers.items():
            if sign in text:
                return {"data": answer()}
        return super().query(text, variables)

    def stream(self, name: str, content: dict[str, Any]) -> None:
        self.said.append({key: value for key, value in content.items() if key != "files"})
        super().stream(name, content)

    def _sweep(self) -> dict[str, Any]:
        config = {"method": "grid", "program": "pansite", "command": self._command, "parameters": {}}
        none = ("description", "heartbeatAt", "updatedAt", "bestLoss", "controller", "scheduler")
        return dict.fromkeys(none) | {
            "id": SWEEP, "name": SWEEP, "method": "grid", "state": "RUNNING", "config": json.dumps(config),
            "createdAt": "2026-01-01T00:00:00", "earlyStopJobRunning": False, "runs": {"edges": []},
        }  # fmt: skip

    def _heartbeat(self, running: dict[str, bool]) -> dict[str, Any]:
        commands: list[dict[str, Any]] = []
        if not self._given:
            self._given = True
            commands = [{"type": "run", "run_id": RUN, "program": "pansite", "args": {"seed": {"value": 5}}}]
        elif not any(running.values()):
            commands = [{"type": "exit"}]
        elif self._started():
            commands = [{"type": "stop", "run_id": RUN}]
        return {"agentHeartbeat": {"agent": {"id": "agent1"}, "commands": json.dumps(commands)}}


@pytest.mark.slow
def test_a_run_that_an_agent_stops_is_saved_and_goes_on_and_a_preempted_one_is_told_of(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    words = ["fit", str(tiny.file), f"run.root={root}", "logging.wandb=online", "trainer.max_steps=3000"]
    words += ["trainer.validate_every=3000", "seed=5"]
    command = ["${env}", sys.executable, "-m", "experiments", *words[:-1], "${args_no_hyphens}"]
    with StoppingServer(command, lambda: bool([*root.glob("tiny/*/checkpoints/last.prev.ckpt")])) as server:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        environment = {
            **os.environ,
            "PYTHONPATH": str(HOUSE),
            "OMP_NUM_THREADS": "1",
            "WANDB_AGENT_REPORT_INTERVAL": "1",
        }
        agent = subprocess.run(
            [sys.executable, "-m", "wandb", "agent", f"{ENTITY}/pansite/{SWEEP}"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert agent.returncode == 0, agent.stderr
        (step,) = re.findall(r"stopped after step (\d+) by SIGTERM; the same command goes on\n", agent.stderr)
        assert 2 <= int(step) < 3000
        assert server.said[-1]["exitcode"] == 143
        assert not any(said.get("preempting") for said in server.said)

        # The same command by hand, which a scheduler then preempts.
        notice = int(step) + 2
        original = DualSSLModule.training_step

        def training_step(self: DualSSLModule, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
            if self.trainer.global_step == notice - 1:
                os.kill(os.getpid(), signal.SIGUSR1)
            return original(self, batch, batch_idx)

        monkeypatch.setattr(DualSSLModule, "training_step", training_step)
        monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 30.0)
        wandb.teardown()
        try:
            code, out, err = pansite(*words)
        finally:
            wandb.teardown(75)  # the exit code, as when a process ends
            unset_globals()
        assert code == 75, err
        assert f"going on from step {step}\n" in out
        assert err == f"preempted after step {notice}; give the same command again to go on\n"
        assert any(said.get("preempting") for said in server.said)
        assert list(server.runs) == [RUN], "it is the sweep's run still"
        losses = [row["trainer/global_step"] for row in server.runs[RUN].history if "loss/total" in row]
        assert losses == list(range(notice))
        assert server.unknown == []
    assert (only_run(root) / "wandb" / "id").read_text().strip() == RUN
