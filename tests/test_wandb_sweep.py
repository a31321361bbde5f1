"""A sweep file on W&B: the real ``wandb sweep`` and ``wandb agent`` against the stand-in for its server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb

from experiments import wandb_run
from tests.conftest import Tiny
from tests.wandb_server import KEY, WandbServer

Command = Callable[..., tuple[int, str, str]]
HOUSE = Path(__file__).parents[1]
FEW = ("trainer.max_steps=2", "trainer.validate_every=1")


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running


def write(folder: Path, tiny: Tiny) -> Path:
    file = folder / "rates.yaml"
    words = ", ".join([f'"{sys.executable}"', "-m", "experiments", "fit", str(tiny.file), f"run.root={folder}", *FEW])
    file.write_text(
        f'program: pansite\ncommand: [{words}, "${{args_no_hyphens}}"]\nproject: sweeps\nmethod: grid\n'
        "metric: {name: val/dice, goal: maximize}\nparameters:\n"
        "  model.optimizer.lr: {values: [0.02]}\n  trainer.ema: {values: [null]}\n"
        "  model.network.filters: {values: [[4, 8, 16]]}\n  name: {values: ['0123']}\n"
    )
    return file


def wandb_command(server: WandbServer, folder: Path, *words: str) -> str:
    environment = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "PYTHONPATH": str(HOUSE)}
    environment |= {"WANDB_ENTITY": "somebody", "OMP_NUM_THREADS": "1"}
    environment.pop("WANDB_MODE", None)
    done = subprocess.run(
        [sys.executable, "-m", "wandb", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_an_agent_of_wandbs_drives_the_file_unedited(
    tiny: Tiny, pansite: Command, tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, tiny)
    made = wandb_command(server, tmp_path, "sweep", str(file))
    (path,) = re.findall(r"wandb agent (\S+)", made)
    said = wandb_command(server, tmp_path, "agent", "--count", "1", path)
    (name, run), *others = server.runs.items()
    assert not others
    # What was asked for has arrived, as the schema's types: None, a list, and a name that YAML would make 83 of.
    config = {key: item["value"] for key, item in run.config.items() if key != "_wandb"}
    assert config["model"]["optimizer"]["lr"] == config["model.optimizer.lr"] == 0.02
    assert config["trainer"]["ema"] is None
    assert config["model"]["network"]["filters"] == [4, 8, 16]
    assert config["name"] == "0123"
    # The metric under the sweep's name, the state, and wandb's own id, which the run folder has taken over.
    measured = [row["val/dice"] for row in run.history if "val/dice" in row]
    assert len(measured) == 2
    assert run.summary["val/dice"] == measured[-1]
    assert (run.sweep, run.exit_code, name) == ("sweep0", 0, "sweep0-1")
    (folder,) = (each.parent for each in tmp_path.glob("0123/*/config.yaml"))
    assert (folder / "wandb" / "id").read_text() == name
    assert "W&B: run sweep0-1 of the sweep sweep0, logged online, although logging.wandb is disabled" in said
    assert "Ignoring" not in said
    assert server.unknown == []

    # Another sweep asks for what is trained already, under an id of its own: it is told what was measured.
    parameters = tmp_path / "config.yaml"
    parameters.write_text(
        "wandb_version: 1\nmodel.optimizer.lr: {value: 0.02}\ntrainer.ema: {value: null}\n"
        "model.network.filters: {value: [4, 8, 16]}\nname: {value: '0123'}\n"
    )
    wandb.teardown()
    monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 20.0)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    settings = {"BASE_URL": server.url, "API_KEY": KEY, "ENTITY": "somebody", "PROJECT": "sweeps", "SWEEP_ID": "other"}
    for key, value in {**settings, "RUN_ID": "other-1", "SWEEP_PARAM_PATH": str(parameters)}.items():
        monkeypatch.setenv(f"WANDB_{key}", value)
    code, out, err = pansite("fit", tiny.file, f"run.root={tmp_path}", *FEW)
    wandb.teardown()
    assert code == 0, err
    assert "trained already" in out
    again = server.runs["other-1"]
    assert [row["val/dice"] for row in again.history if "val/dice" in row] == pytest.approx(measured)
    assert [row["trainer/global_step"] for row in again.history] == [0, 1]
    assert (folder / "wandb" / "id").read_text() == "other-1"
