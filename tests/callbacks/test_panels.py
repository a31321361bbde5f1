"""Panels of a run: what they show, where they go, and that nothing of the training depends on them."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb
from PIL import Image

import callbacks.panels
from callbacks.panel_files import panels
from callbacks.panel_picture import BOTTOM, GAP, INK, LEFT, RIGHT, TILE, TOP
from lightning_modules.dual_ssl import DualSSLModule
from tests import launched
from tests.callbacks.tiny import kill_now
from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]
COLUMNS = ["image", "uncertainty", "M", "corrupted", "restored", "prediction", "label"]


def run_in(root: Path) -> Path:
    (config,) = (path for path in root.glob("tiny/*/config.yaml") if ".replaced-" not in path.parent.name)
    return config.parent


def fit(tiny: Tiny, root: Path, *words: str) -> Path:
    from experiments.cli import main

    assert main(["fit", str(tiny.file), f"run.root={root}", *words]) == 0
    return run_in(root)


def files(run: Path) -> dict[int, bytes]:
    return {step: path.read_bytes() for step, path in panels(run / "panels").items()}


def same_training(a: Path, b: Path) -> bool:
    """Equal ids, metrics, and checkpoints to the last bit."""
    one, other = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (a, b))
    equal = all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    return equal and a.name == b.name and (a / "metrics.csv").read_text() == (b / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def watched(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a panel every other step, sent to an offline W&B; tests leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        run = fit(tiny, tmp_path_factory.mktemp("watched"), "logging.panel_every=2", "logging.wandb=offline")
        wandb.finish()
    return run


def tiles(picture: Image.Image, row: int = 0) -> list[np.ndarray]:
    """The slices of a row of a panel of cubic patches."""
    pixels = np.asarray(picture.convert("RGB"))
    top = TOP + row * (TILE + GAP)
    band = pixels[top : top + TILE, LEFT:]
    ink = (band == [int(INK[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=(0, 2))
    edges = np.flatnonzero(np.diff(np.pad(~ink, 1).astype(int)))
    return [band[:, start:stop] for start, stop in edges.reshape(-1, 2)]


def test_panels_come_at_their_steps_with_a_row_a_sample_and_seven_columns(watched: Path) -> None:
    assert list(files(watched)) == [2, 4, 6]
    with Image.open(watched / "panels" / "step_000004.png") as picture:
        assert picture.text["Title"] == "Step 4 of 6"
        assert picture.text["Description"].startswith(", ".join(COLUMNS) + " of source_")
        assert picture.width == LEFT + 7 * (TILE + GAP) - GAP + RIGHT
        assert picture.height == TOP + 2 * (TILE + GAP) - GAP + BOTTOM
        for row in range(2):
            found = tiles(picture, row)
            assert [tile.shape for tile in found] == [(TILE, TILE, 3)] * 7
            assert all(tile.std() > 0 for tile in found)
        # What was corrupted is not what it was: the two grey columns differ in some cell.
        grey = [tiles(picture)[COLUMNS.index(name)].astype(int) for name in ("image", "corrupted")]
        assert (abs(grey[0] - grey[1]).max(axis=2) > 25).mean() > 0.01
    assert max(len(content) for content in files(watched).values()) < 500_000
    assert not list(watched.rglob("*.part"))


def test_training_is_the_same_to_the_last_bit_with_and_without_panels(
    watched: Path, tiny: Tiny, tmp_path: Path
) -> None:
    without = fit(tiny, tmp_path, "logging.panel_every=0")
    assert not (without / "panels").exists()
    assert same_training(watched, without)


def test_weights_and_biases_gets_each_panel_at_its_step(watched: Path) -> None:
    (piece,) = (watched / "wandb").glob("offline-run-*")
    assert len(list(piece.glob("files/media/images/panel*.png"))) == 3
    (log,) = piece.glob("*.wandb")
    shown = [row for row in history(log) if "panel/count" in row]
    # W&B counts from 0, as Lightning does for its loggers: step 2 stands beside the losses of step 2.
    assert [row["trainer/global_step"] for row in shown] == ["1", "3", "5"]
    losses = [row["trainer/global_step"] for row in history(log) if "loss/total" in row]
    assert losses == ["0", "1", "2", "3", "4", "5"]


def history(log: Path) -> list[dict[str, str]]:
    """What an offline piece of a W&B run holds to be sent, row by row, values as JSON."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for message in messages(log.read_bytes()):
        record = Record()
        record.ParseFromString(message)
        if items := record.history.item:
            rows.append({item.key or "/".join(item.nested_key): item.value_json for item in items})
    return rows


def messages(log: bytes) -> Iterator[bytes]:
    """The messages of a LevelDB log: blocks of 32 KiB, pieces of up to a block with checksum, length and kind."""
    block, header, place, message = 32_768, 7, 7, b""  # W&B's own header is as long as that of a piece
    while place + header <= len(log):
        if block - place % block < header:
            place += block - place % block
        length, kind = struct.unpack("<HB", log[place + 4 : place + header])
        message += log[place + header : place + header + length]
        place += header + length
        if kind in (1, 4):  # a whole message, or the last piece of one
            yield message
            message = b""


@pytest.mark.slow
def test_a_run_that_was_killed_has_the_panels_of_one_that_was_not(
    tiny: Tiny, tmp_path: Path, in_child: Callable[[Callable[[], Any]], int]
) -> None:
    words = ("logging.panel_every=1", "trainer.accumulate=2")
    calm = fit(tiny, tmp_path / "calm", *words)

    def die_in_the_fourth_step() -> None:
        original, calls = DualSSLModule.training_step, []

        def counted(self: DualSSLModule, *arguments: Any) -> Any:
            calls.append(1)
            return kill_now() if len(calls) == 8 else original(self, *arguments)

        DualSSLModule.training_step = counted  # type: ignore[method-assign]  # in a process of its own
        fit(tiny, tmp_path / "killed", *words)

    def die_at(file: str, after: bool) -> None:
        original = os.replace

        def fatal(part: str, path: Path) -> None:
            if Path(path).name != file or after:
                original(part, path)
            if Path(path).name == file:
                kill_now()

        os.replace = fatal  # type: ignore[assignment]  # as above
        fit(tiny, tmp_path / "killed", *words)

    torch.set_num_threads(1)
    assert in_child(die_in_the_fourth_step) == -9
    killed = run_in(tmp_path / "killed")
    assert list(files(killed)) == [1, 2, 3]  # of which checkpoints know 1 and 2
    (killed / "panels" / "step_000099.png").write_bytes(b"of a life that went further")
    # A checkpoint never knows of a step whose panel is not there: it would not be drawn any more.
    assert in_child(lambda: die_at("last.ckpt", after=True)) == -9
    assert list(files(killed)) == [1, 2, 3, 4]
    assert in_child(lambda: die_at("step_000005.png", after=False)) == -9
    assert list(files(killed)) == [1, 2, 3, 4]
    assert fit(tiny, tmp_path / "killed", *words) == killed
    assert files(killed) == files(calm)
    assert same_training(killed, calm)


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (("model.contrastive.weight=0", "model.restoration.weight=0"), ["M", "corrupted", "restored"]),
        (("model.restoration.weight=0",), ["restored"]),
        (("model.restoration.weight=0", "model.contrastive.views=clean"), ["M", "corrupted", "restored"]),
        (("model.segmentation.weight=0", "model.restoration.region.name=band"), ["uncertainty", "prediction"]),
        (("model.restoration.passes=one", "model.restoration.region.name=band"), []),
    ],
    ids=["supervised", "contrast", "contrast of clean views", "pretraining", "single pass"],
)
def test_a_run_shows_what_it_has(words: tuple[str, ...], gone: list[str], tiny: Tiny, tmp_path: Path) -> None:
    run = fit(tiny, tmp_path, "trainer.max_steps=1", "logging.panel_every=1", *words)
    with Image.open(run / "panels" / "step_000001.png") as picture:
        kept = [name for name in COLUMNS if name not in gone]
        assert picture.text["Description"].startswith(", ".join(kept) + " of ")
        assert len(tiles(picture)) == len(kept)


def test_a_panel_that_cannot_be_written_costs_a_sentence(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(callbacks.panels, "atomic_file", full)
    run = fit(tiny, tmp_path, "trainer.max_steps=2", "logging.panel_every=2")
    assert re.search(r"warning: .*step_000002\.png: the panel could not be written .*No space", capsys.readouterr().err)
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_a_number_of_steps_below_zero_is_refused(tiny: Tiny, pansite: Command) -> None:
    code, _, err = pansite("config", "check", tiny.file, "logging.panel_every=-1")
    assert code == 2
    assert "logging.panel_every: must be 0 or more, not -1" in err


@pytest.mark.slow
def test_with_two_ranks_the_first_draws_and_the_second_does_not_wait(tiny: Tiny, tmp_path: Path) -> None:
    runs = []
    for every in (0, 1):
        words = ["fit", tiny.file, f"run.root={tmp_path / str(every)}", "trainer.max_steps=3", "trainer.devices=2"]
        code, _, err = launched.run([*words, f"logging.panel_every={every}"], tmp_path)
        assert code == 0, err
        runs.append(run_in(tmp_path / str(every)))
    assert same_training(*runs)
    assert list(files(runs[1])) == [1, 2, 3]
    with Image.open(runs[1] / "panels" / "step_000001.png") as picture:
        # A rank sees its own half of the batch.
        assert picture.height == TOP + TILE + BOTTOM
