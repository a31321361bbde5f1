"""A checkpoint from a stranger executes nothing, wherever it comes in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from callbacks.checkpoint_io import latest
from datamodules.errors import Notice, UsageError
from experiments import initial_weights
from tests.callbacks.test_checkpoint_io import Payload
from tests.experiments.bodies import write_body, write_run
from tests.test_rooms import FLOORS, HOUSE

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """What is there once a payload was executed."""
    return tmp_path / "executed"


@pytest.fixture
def run(tmp_path: Path, proof: Path) -> Path:
    """A run whose checkpoints are true ones with a payload among the settings."""
    folder = tmp_path / "runs" / "tiny" / "0123"
    write_run(folder)
    best = folder / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    content["hyper_parameters"]["seed"] = Payload(proof)
    for name in ("best", "last"):
        torch.save(content, folder / "checkpoints" / f"{name}.ckpt")
    return folder


def test_the_payload_would_work(run: Path, proof: Path) -> None:
    torch.load(run / "checkpoints" / "best.ckpt", weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize(
    "words", [("predict", "RUN", "IMAGE", "--output", "OUT"), ("export", "RUN", "--output", "OUT"), ("evaluate", "RUN")]
)
def test_a_command_refuses_it_in_one_sentence(
    run: Path, proof: Path, tmp_path: Path, pansite: Command, words: tuple[str, ...]
) -> None:
    places = {"RUN": run, "IMAGE": tmp_path / "ct.nii.gz", "OUT": tmp_path / "out"}
    write_body(places["IMAGE"])
    code, _, err = pansite(*(places.get(word, word) for word in words))
    assert code == 2
    assert "best.ckpt can't be loaded, and there is no earlier one" in err.splitlines()[-1]
    assert not proof.exists()
    assert not (tmp_path / "out").exists()


def test_one_that_is_listed_resumed_from_or_started_from_executes_nothing(
    run: Path, proof: Path, pansite: Command
) -> None:
    assert pansite("checkpoints", run)[0] == 2
    with pytest.warns(Notice, match="passed over"):
        assert latest(run / "checkpoints") is None  # where `pansite fit` looks for what to go on from
    with pytest.raises(UsageError, match="can't be loaded"):
        initial_weights.digest(initial_weights.find(str(run / "checkpoints" / "best.ckpt")))
    assert not proof.exists()


def test_a_bundle_is_no_run(tmp_path: Path, pansite: Command) -> None:
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "inference.json").write_text("{\"run\": \"$open('executed', 'w')\"}")
    code, _, err = pansite("predict", tmp_path / "bundle", tmp_path / "ct.nii.gz", "--output", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert not Path("executed").exists()


def test_nothing_in_the_house_unpickles_what_it_reads() -> None:
    found = []
    for file in (file for room in FLOORS for file in (HOUSE / room).rglob("*.py")):
        text = file.read_text("utf-8")
        loads = re.findall(r"torch\.load\([^)]*\)", text)
        unsafe = [load for load in loads if "weights_only=True" not in load]
        unsafe += re.findall(r"pickle\.loads?\(|allow_pickle=True|weights_only=False|joblib|torch\.jit\.load", text)
        found += [f"{file.relative_to(HOUSE)}: {each}" for each in unsafe]
    assert found == []
