"""A run goes on under the conditions of its checkpoint, or says for ever that it did not."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from callbacks.checkpoint_io import read_checkpoint
from callbacks.conditions import ConditionsGuard
from callbacks.inexact import changes, difference, recorded, sentence
from datamodules.errors import UsageError
from tests.callbacks.tiny import kill_now

Fit = Callable[..., pl.Trainer]
InChild = Callable[[Callable[[], Any]], int]


def guard(folder: Path, channels_last: bool = False, inexact: bool = False, told: list[str] | None = None) -> Callback:
    tell = (lambda _: None) if told is None else told.append
    return ConditionsGuard({"channels_last": channels_last}, folder / "inexact.json", inexact, tell)


class KillAtStep(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            kill_now()


def test_every_checkpoint_notes_what_its_bits_depend_on(tmp_path: Path, fit: Fit) -> None:
    fit(tmp_path, steps=4, validate=2, save=2, extra=[guard(tmp_path)])
    for name in ("last", "best"):
        noted = read_checkpoint(tmp_path / "checkpoints" / f"{name}.ckpt")["callbacks"]["ConditionsGuard"]
        assert set(noted["conditions"]) == {"ranks", "threads", "device", "torch", "channels_last"}
        assert noted["conditions"]["torch"] == torch.__version__
        assert noted["inexact"] == []
    told: list[str] = []
    fit(tmp_path, steps=8, validate=2, save=2, extra=[guard(tmp_path, told=told)])
    assert told == []
    assert not (tmp_path / "inexact.json").exists()


def test_a_difference_is_refused_with_both_sides_and_a_way_out(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tmp_path, steps=4, validate=2, save=2, extra=[guard(tmp_path)])
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr("callbacks.conditions.torch.get_num_threads", lambda: 7)
    with pytest.raises(UsageError) as told:
        fit(tmp_path, steps=8, validate=2, save=2, extra=[guard(tmp_path, channels_last=True)])
    assert "was 1 thread a rank, is 7; was channels_last false, is true" in str(told.value)
    assert "last.ckpt" in str(told.value)
    assert "--inexact" in str(told.value)
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


def test_going_on_all_the_same_is_said_for_ever(tmp_path: Path, fit: Fit) -> None:
    fit(tmp_path, steps=4, validate=2, save=2, extra=[guard(tmp_path)])
    told: list[str] = []
    changed = partial(guard, tmp_path, channels_last=True, told=told)
    fit(tmp_path, steps=8, validate=2, save=2, extra=[changed(inexact=True)])
    assert len(told) == 1
    assert "inexactly from step 4 (was channels_last false, is true; 20" in told[0]
    # What it became is what it is now: no second permission, but the word stays.
    fit(tmp_path, steps=12, validate=2, save=2, extra=[changed()])
    assert told == told[:1] * 2
    (entry,) = json.loads((tmp_path / "inexact.json").read_text())
    assert entry["step"] == 4
    assert entry["changes"] == {"channels_last": [False, True]}
    assert recorded(read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")) == [entry]
    # Back again is another break.
    fit(tmp_path, steps=16, validate=2, save=2, extra=[guard(tmp_path, inexact=True, told=told)])
    assert [entry["step"] for entry in json.loads((tmp_path / "inexact.json").read_text())] == [4, 12]
    assert "from step 4" in told[-1]
    assert "and from step 12" in told[-1]


def test_a_life_that_saved_nothing_leaves_no_word(tmp_path: Path, fit: Fit, in_child: InChild) -> None:
    fit(tmp_path, steps=4, validate=4, save=4, extra=[guard(tmp_path)])
    lost = [guard(tmp_path, channels_last=True, inexact=True), KillAtStep(5)]
    assert in_child(partial(fit, tmp_path, steps=8, validate=4, save=4, extra=lost)) == -signal.SIGKILL
    assert (tmp_path / "inexact.json").is_file()
    fit(tmp_path, steps=8, validate=4, save=4, extra=[guard(tmp_path)])
    assert not (tmp_path / "inexact.json").exists(), "what is trained is exact again"
    assert recorded(read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")) == []


def test_differences_read_as_words() -> None:
    before = {"ranks": 2, "threads": [1, 2], "device": "NVIDIA A", "torch": "2.13", "deterministic": False, "gone": 1}
    now = {"ranks": 1, "threads": 4, "device": "cpu (AVX2)", "torch": "2.14", "deterministic": True, "new": 1}
    assert difference(changes(before, now)) == (
        "was 2 ranks, is 1; was 1, 2 threads a rank, is 4; was device NVIDIA A, is cpu (AVX2); "
        "was PyTorch 2.13, is 2.14; was deterministic false, is true"
    )
    assert changes(before, before) == {}
    assert sentence([]) == ""
