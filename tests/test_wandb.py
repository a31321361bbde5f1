"""Weights & Biases by its real client: one run however often it is continued, sent now or later, never in the way."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import wandb

from datamodules.batch import PatchBatch
from datamodules.errors import UsageError
from experiments import wandb_run
from lightning_modules.dual_ssl import DualSSLModule
from tests.conftest import Tiny
from tests.wandb_server import KEY, Run, WandbServer

Command = Callable[..., tuple[int, str, str]]
HOUSE = Path(__file__).parents[1]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """The real client, to be turned to a server's address with a key; it forgets all when the test ends."""

    def turn_to(url: str) -> None:
        wandb.teardown()
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)

    # It ends with the test, even where that has stopped its server.
    monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 5.0)
    monkeypatch.setattr(wandb_run, "INIT_SECONDS", 3.0)
    for name in ("WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    yield turn_to
    wandb.teardown()


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Let something happen as a step begins."""
    original = DualSSLModule.training_step

    def training_step(self: DualSSLModule, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == step - 1:
            act()
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DualSSLModule, "training_step", training_step)


def stop() -> None:
    raise UsageError("stopped on purpose")


def losses(run: Run) -> list[int]:
    return [row["trainer/global_step"] for row in run.history if "loss/total" in row]


def only_run(root: Path) -> Path:
    (run,) = (path.parent for path in root.glob("tiny/*/config.yaml"))
    return run


def send(command: str, server: WandbServer, folder: Path) -> None:
    """Give a command of wandb's."""
    environment = {**os.environ, "WANDB_BASE_URL": server.url}
    words = [sys.executable, "-m", *shlex.split(command)]
    sent = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert sent.returncode == 0, sent.stderr


@pytest.mark.slow
def test_a_continued_run_is_one_run_online_and_shows_all_that_was_found(
    tiny: Tiny, pansite: Command, tmp_path: Path, client: Callable[[str], None], server: WandbServer
) -> None:
    """The trap: a requeued job would start a new run."""
    client(server.url)
    words = ("run", tiny.file, f"run.root={tmp_path}", "logging.wandb=online", "logging.panel_every=3")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 5, stop)
        assert pansite(*words)[0] == 2
    code, out, err = pansite(*words)
    assert code == 0, err
    assert "going on from step 4" in out
    assert "W&B" not in out
    folder = only_run(tmp_path)
    (run,) = server.runs.values()
    assert run.name == (folder / "wandb" / "id").read_text().strip()
    assert run.name.startswith(folder.name)
    # Steps are counted from 0; what came after the checkpoint comes again.
    assert losses(run) == [0, 1, 2, 3, 4, 5]
    assert run.config["model"]["value"]["optimizer"]["lr"] > 0
    assert run.config["environment"]["value"]["packages"]["torch"] == torch.__version__
    axis = json.dumps(run.config["_wandb"]["value"]["m"])
    assert "trainer/global_step" in axis

    (table,) = (files for name, files in server.artifacts.items() if "-evaluationper_case" in name)
    rows = json.loads(next(content for name, content in table.items() if name.endswith(".table.json")))
    cases = (folder / "evaluation" / "per_case.csv").read_text().splitlines()
    assert rows["columns"] == cases[0].split(",")
    assert [",".join(map(str, row[:2])) for row in rows["data"]] == [",".join(row.split(",")[:2]) for row in cases[1:]]
    assert [row[2] for row in rows["data"]] == [float(row.split(",")[2]) for row in cases[1:]]
    report = server.artifacts[f"report-{run.name}"]
    for name in ("report.html", "overview.png", "per_case.csv", "summary.json"):
        assert report[name] == (folder / "evaluation" / name).read_bytes()
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    assert run.summary["evaluation/west/dice"] == pytest.approx(summary["sites"]["west"]["dice"]["mean"])
    assert run.summary["evaluation/held_out_macro/dice"] == pytest.approx(summary["held_out_macro"]["dice"])
    pictures = {name: shown for name, shown in run.summary.items() if name.startswith("evaluation/overlays/")}
    assert len(pictures) == 5
    assert "(worst), Dice 0." in pictures["evaluation/overlays/west/worst"]["caption"]
    assert "sizes do not match" not in err
    kinds = [name.split("/")[1] for name in run.files if name.startswith("media/images")]
    assert len([name for name in run.files if name.startswith("media/images/mask")]) == 2 * 5, kinds
    assert any("panel" in name for name in run.files)
    charts = {name for name in run.config["_wandb"]["value"]["visualize"] if name.startswith("evaluation/")}
    assert charts == {f"evaluation/dice_by_{what}" for what in ("site", "reference_volume_ml", "uncertainty")}
    assert server.unknown == []

    # All is shown already.
    begun = run.begun
    assert pansite(*words)[0] == 0
    assert run.begun == begun


@pytest.mark.slow
def test_offline_pieces_are_listed_in_order_and_make_one_run_when_they_are_sent(
    tiny: Tiny, pansite: Command, tmp_path: Path, client: Callable[[str], None], server: WandbServer
) -> None:
    """The trap: nothing can be resumed offline; each command leaves a folder of its own."""
    client("http://127.0.0.1:9")
    words = ("run", tiny.file, f"run.root={tmp_path}", "logging.wandb=offline")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 5, stop)
        assert pansite(*words)[0] == 2
    code, out, err = pansite(*words)
    assert code == 0, err
    folder = only_run(tmp_path)
    name = (folder / "wandb" / "id").read_text().strip()
    pieces = sorted((folder / "wandb").glob(f"offline-run-*-{name}"))
    assert len(pieces) == 2
    (said,) = re.findall(r"in 2 pieces, in this order: (.*)", out)
    command = shlex.split(said)
    assert command == ["wandb", "sync", *map(str, pieces)]
    page = folder / "evaluation" / "report.html"
    told = page.read_text()
    assert f"<ol>{''.join(f'<li><code>{piece.name}</code></li>' for piece in pieces)}</ol>" in told
    assert html.unescape(told).count(f">{said}</pre>") == 1
    assert pansite("evaluate", folder)[0] == 0
    assert page.read_text() == told, "it is the same report, and has made no piece of its own"
    assert sorted((folder / "wandb").glob(f"offline-run-*-{name}")) == pieces
    assert said in pansite("report", folder)[1]

    send(said, server, tmp_path)
    (run,) = server.runs.values()
    assert run.name == name
    assert losses(run) == [0, 1, 2, 3, 4, 5]
    assert [row["_step"] for row in run.history] == list(range(len(run.history))), "the second piece follows the first"
    assert f"report-{name}" in server.artifacts
    assert server.unknown == []
    assert "wandb sync" not in pansite("report", folder)[1]
    assert "Not in Weights &amp; Biases" not in page.read_text()


def test_a_missing_login_costs_a_sentence(
    tiny: Tiny, pansite: Command, tmp_path: Path, client: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    client("http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY")
    words = ("fit", tiny.file, f"run.root={tmp_path}", "logging.wandb=online", "trainer.max_steps=1")
    code, out, err = pansite(*words)
    assert code == 0, err
    assert "W&B: there is no login (run `wandb login` or set WANDB_API_KEY); this run is logged offline." in out
    assert out.count("W&B: ") == 1
    assert out.count("wandb sync") == 1
    assert len(list((only_run(tmp_path) / "wandb").glob("offline-run-*/*.wandb"))) == 1


def test_a_network_that_is_down_costs_a_sentence(
    tiny: Tiny, pansite: Command, tmp_path: Path, client: Callable[[str], None]
) -> None:
    client("http://127.0.0.1:9")
    words = ("fit", tiny.file, f"run.root={tmp_path}", "logging.wandb=online", "trainer.max_steps=1")
    code, out, err = pansite(*words)
    assert code == 0, err
    assert re.search(r"W&B: can't be reached \(.*connection refused\); this run is logged offline\.", out)
    assert out.count("W&B: ") == 1
    assert out.count("wandb sync") == 1


@pytest.mark.slow
def test_a_network_that_goes_down_meanwhile_costs_a_sentence_and_what_was_not_sent_can_be_sent(
    tiny: Tiny, pansite: Command, tmp_path: Path, client: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with WandbServer() as first:
        client(first.url)
        interrupt_at(monkeypatch, 2, first.stop)
        words = ("fit", tiny.file, f"run.root={tmp_path}", "logging.wandb=online", "trainer.max_steps=3")
        code, out, err = pansite(*words)
    assert code == 0, err
    (command,) = re.findall(r"W&B: not all was sent \(.*\); send it later: (.*)", out)
    with WandbServer() as second:
        send(command, second, tmp_path)
        (run,) = second.runs.values()
        assert losses(run) == [0, 1, 2]


@pytest.mark.slow
def test_of_several_ranks_one_alone_makes_a_run(tiny: Tiny, tmp_path: Path, server: WandbServer) -> None:
    """The trap: each rank would make a run of its own, and only one of them would know the configuration."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOUSE)}
    environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    environment.pop("WANDB_MODE", None)
    words = ["fit", str(tiny.file), f"run.root={tmp_path}", "logging.wandb=online", "trainer.devices=2"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *words], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    (run,) = server.runs.values()
    assert losses(run) == [0, 1, 2, 3, 4, 5]
    assert run.config["trainer"]["value"]["devices"] == 2
    assert len(list((only_run(tmp_path) / "wandb").glob("run-*"))) == 1
