"""Pretraining on the source and fine-tuning, by the command: two runs, the second from the first one's weights."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules.batch import PatchBatch
from lightning_modules.dual_ssl import DualSSLModule
from tests.conftest import Tiny
from tests.kills import at_call, live, only_run, same
from tests.test_whole_path import weights

Command = Callable[..., tuple[int, str, str]]

PRETRAIN = ("name=pretrained", "model.segmentation.weight=0", "model.restoration.region.name=band")


@pytest.fixture(scope="module")
def pretrained(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of runs, with a pretrained one."""
    from experiments.cli import main

    root = tmp_path_factory.mktemp("pretrained")
    assert main(["fit", str(tiny.file), f"run.root={root}", *PRETRAIN]) == 0
    return root


def test_run_trains_and_says_that_there_is_nothing_to_evaluate_yet(
    tiny: Tiny, pretrained: Path, pansite: Command, tmp_path: Path
) -> None:
    code, out, err = pansite("run", tiny.file, f"run.root={pretrained}", *PRETRAIN)
    assert code == 0, err
    assert "trained already, all 6 steps" in out
    run = only_run(pretrained, "pretrained")
    assert out.strip().splitlines()[-1].startswith(f"{run}: is pretrained without segmentation")
    assert f"nothing to evaluate or to predict with yet; fine-tune it in another run, by model.init={run}" in out
    assert {path.name for path in (run / "checkpoints").glob("*.ckpt")} <= {"last.ckpt", "last.prev.ckpt"}
    assert not (run / "evaluation").exists()
    with (run / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == [str(step) for step in range(1, 7)]
    columns = set(table[0])
    assert {"loss/contrastive", "loss/restoration", "grad_norm/contrastive", "grad_norm/restoration"} <= columns
    assert not {name for name in columns if "segmentation" in name or name == "val/dice"}

    image = tmp_path / "image.nii.gz"
    for words in (("evaluate", run), ("report", run), ("predict", run, image, "--output", tmp_path / "masks")):
        code, _, err = pansite(*words)
        assert code == 2
        assert err.startswith(f"error: {run}: is pretrained without segmentation")
        assert err.strip().count("\n") == 0


@pytest.mark.slow
def test_fine_tuning_starts_from_exactly_these_weights_and_goes_to_the_end(
    tiny: Tiny, pretrained: Path, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    original = DualSSLModule.training_step

    def remember(self: DualSSLModule, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
        seen.append({name: value.clone() for name, value in self.network.state_dict().items()})
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DualSSLModule, "training_step", remember)
    last = weights(only_run(pretrained, "pretrained"))
    expected = {name.removeprefix("network."): value for name, value in last.items() if name.startswith("network.")}
    words = ("run", tiny.file, f"run.root={tmp_path}", "seed=1", "model.restoration.weight=0")
    # The folder above a run means the run, as it does for other commands.
    code, out, err = pansite(*words, f"model.init={pretrained / 'pretrained'}")
    assert code == 0, err
    assert "starting from the weights of" in out
    assert "(step 6)" in out
    assert same(seen[0], expected)
    assert not same(seen[-1], expected)
    run = only_run(tmp_path)
    assert json.loads((run / "evaluation" / "summary.json").read_text())["sites"]
    # By its own folder and by its file it is the same run.
    source = only_run(pretrained, "pretrained")
    for init in (source, source / "checkpoints" / "last.ckpt"):
        assert "trained already" in pansite(*words, f"model.init={init}")[1]
    # Other weights, another run.
    assert pansite(*words, f"model.init={run}", "trainer.max_steps=1")[0] == 0
    assert len([path for path in run.parent.iterdir() if path.is_dir()]) == 2


def test_initial_weights_that_are_not_there_are_refused_by_key(
    tiny: Tiny, pretrained: Path, pansite: Command, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    (empty / "checkpoints").mkdir(parents=True)
    (empty / "config.yaml").write_text("name: a\n")
    for init, reason in (
        (tmp_path / "nowhere", "there is no such run folder"),
        (pretrained, "holds no run"),
        (empty, "has no checkpoint"),
    ):
        code, _, err = pansite("fit", tiny.file, f"run.root={tmp_path}", f"model.init={init}")
        assert code == 2
        assert err.startswith("error: model.init: ")
        assert reason in err
    other = ("model.network.filters=[4, 8, 8]", f"model.init={pretrained}/pretrained")
    code, _, err = pansite("fit", tiny.file, f"run.root={tmp_path}", *other)
    assert code == 2
    assert "model.init" in err
    assert "does not fit model.network" in err
    assert not (tmp_path / "tiny").exists() or not [path for path in (tmp_path / "tiny").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("model.restoration.weight=0", "model.contrastive.weight=0"), "model.segmentation.weight: is 0, as are"),
        (("model.restoration.region.name=entropy",), "model.restoration.region.name: entropy asks for a prediction"),
        (("model.contrastive.sampling=uncertain",), "model.contrastive.sampling: uncertain asks for a prediction"),
        (
            ("model.contrastive.weight=0", "model.restoration.detach_encoder=true"),
            "model.restoration.detach_encoder: keeps restoration from the encoder",
        ),
    ],
)
def test_what_can_not_be_pretrained_is_told_before_any_data_is_read(
    tiny: Tiny, pansite: Command, overrides: tuple[str, ...], key: str
) -> None:
    code, _, err = pansite("config", "check", tiny.file, *PRETRAIN, *overrides)
    assert code == 2
    assert key in err


@pytest.mark.slow
def test_a_pretraining_run_that_was_killed_ends_with_the_same_bits(tiny: Tiny, tmp_path: Path) -> None:
    words = ["fit", str(tiny.file), *PRETRAIN]
    assert live([*words, f"run.root={tmp_path / 'calm'}"], tmp_path / "log.txt") == 0
    killed = [*words, f"run.root={tmp_path / 'killed'}"]
    module = "lightning_modules.dual_ssl:DualSSLModule"
    for death in (at_call(f"{module}.training_step", 4), at_call("os:replace", file="last.ckpt")):
        assert live(killed, tmp_path / "log.txt", death=death) == -signal.SIGKILL
    assert live(killed, tmp_path / "log.txt") == 0
    calm, other = (only_run(tmp_path / name, "pretrained") for name in ("calm", "killed"))
    one, two = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (calm, other))
    assert {key for key in one if not same(one[key], two[key])} == set()
    assert (calm / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
