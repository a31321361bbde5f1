"""When a run saves, and that a continued run ends as the one that was never touched."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging

from callbacks.checkpoint_io import KillSafeCheckpointIO, chosen, latest, previous, read_checkpoint
from callbacks.checkpoints import lost_best
from callbacks.metrics_file import read_metrics
from datamodules.errors import UsageError
from tests.callbacks.tiny import TinyModule, kill_now

Fit = Callable[..., pl.Trainer]
InChild = Callable[[Callable[[], Any]], int]


class KillAt(Callback):
    """Kills the process in a hook at a step."""

    def __init__(self, hook: str, step: int) -> None:
        def maybe(trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == step:
                kill_now()

        setattr(self, hook, maybe)


class Saves(Callback):
    """Notes the steps that were saved, by what they were saved for."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
        self.steps.append(trainer.global_step)


def everything(folder: Path) -> dict[str, Any]:
    """What must be equal at the end of a run."""
    state: dict[str, Any] = {"metrics": (folder / "metrics.csv").read_bytes()}
    for name in ("last", "best"):
        loaded = read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")
        state[f"{name} step"] = loaded["global_step"]
        state[f"{name} weights"] = {k: v.tolist() for k, v in loaded["state_dict"].items()}
        state[f"{name} optimizer"] = str(loaded["optimizer_states"])
        state[f"{name} average"] = str([loaded.get("averaging_state"), loaded.get("current_model_state")])
        state[f"{name} callbacks"] = str(loaded["callbacks"])
    return state


def test_last_and_best_have_stable_names_and_the_right_steps(tmp_path: Path, fit: Fit) -> None:
    saves = Saves()
    fit(tmp_path, steps=10, validate=4, save=3, extra=[saves], dice=lambda step: {4: 0.6, 8: 0.5}[step])
    folder = tmp_path / "checkpoints"
    assert saves.steps == [3, 4, 6, 9, 10], "every third step, the better validation, the end"
    assert sorted(p.name for p in folder.iterdir()) == ["best.ckpt", "last.ckpt", "last.prev.ckpt"]
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == 10
    assert read_checkpoint(folder / "best.ckpt")["global_step"] == 4


def test_checkpoints_stand_at_accumulation_boundaries(tmp_path: Path, fit: Fit) -> None:
    saves = Saves()
    fit(tmp_path, steps=6, validate=6, save=2, accumulate=3, extra=[saves])
    assert saves.steps == [2, 4, 6, 6]
    progress = read_checkpoint(previous(tmp_path / "checkpoints" / "last.ckpt"))
    assert progress["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] == 12


def test_a_nan_is_the_lowest_score(tmp_path: Path, fit: Fit) -> None:
    fit(tmp_path, steps=6, validate=2, save=6, dice=lambda step: {2: math.nan, 4: 0.1, 6: math.nan}[step])
    assert read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")["global_step"] == 4


def test_the_best_score_survives_a_resume(tmp_path: Path, fit: Fit) -> None:
    def scores(step: int) -> float:
        return 0.9 if step == 4 else 0.3

    fit(tmp_path, steps=8, validate=4, save=4, dice=scores)
    fit(tmp_path, steps=16, validate=4, save=4, dice=scores)
    assert read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")["global_step"] == 4
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 16


def test_a_finished_run_does_nothing_again(tmp_path: Path, fit: Fit) -> None:
    fit(tmp_path)
    before = everything(tmp_path)
    saves = Saves()
    fit(tmp_path, extra=[saves])
    assert saves.steps == []
    assert everything(tmp_path) == before


MOMENTS = [
    ("on_train_batch_start", 1),  # before the first checkpoint
    ("on_train_batch_start", 3),  # right after a checkpoint
    ("on_train_batch_end", 3),  # right before it
    ("on_train_batch_end", 4),  # before the validation of the step
    ("on_validation_batch_end", 8),  # in the middle of validation
    ("on_validation_end", 12),  # between the best and the last checkpoint
    ("on_validation_end", 4),  # after a validation without a checkpoint
    ("on_train_batch_start", 12),  # after a validation with a checkpoint
    ("on_train_end", 14),  # before the last checkpoint
]


@pytest.mark.parametrize(("accumulate", "log", "ema"), [(1, 1, False), (2, 5, False), (2, 1, True)])
def test_a_run_that_was_killed_ends_as_if_untouched(
    tmp_path: Path, fit: Fit, in_child: InChild, accumulate: int, log: int, ema: bool
) -> None:
    settings: dict[str, Any] = {"steps": 14, "validate": 4, "save": 3, "log": log, "accumulate": accumulate}

    def averaging() -> list[Callback]:
        return [EMAWeightAveraging(decay=0.9)] if ema else []

    fit(tmp_path / "untouched", **settings, extra=averaging())
    expected = everything(tmp_path / "untouched")
    steps = [row["step"] for row in read_metrics(tmp_path / "untouched" / "metrics.csv")]
    assert steps == sorted({*range(log, 15, log), 4, 8, 12})
    for number, moment in enumerate(MOMENTS):
        folder = tmp_path / str(number)
        code = in_child(partial(fit, folder, **settings, extra=[*averaging(), KillAt(*moment)]))
        assert code == -signal.SIGKILL, moment
        fit(folder, **settings, extra=averaging())
        assert everything(folder) == expected, moment


def test_a_full_disk_never_stops_the_run_but_its_end_is_told(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tmp_path, steps=4, validate=2, save=2, dice=lambda step: 0.1 * step)
    folder = tmp_path / "checkpoints"

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr("callbacks.checkpoint_io.KillSafeCheckpointIO._keep", full)
        with (
            pytest.warns(UserWarning, match="could not be written"),
            pytest.raises(UsageError, match=r"last\.ckpt: training has ended, but its last checkpoint could not"),
        ):
            fit(tmp_path, steps=8, validate=2, save=2, dice=lambda step: 0.1 * step)
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == 4
    assert read_checkpoint(folder / "best.ckpt")["global_step"] == 4
    fit(tmp_path, steps=8, validate=2, save=2, dice=lambda step: 0.1 * step)
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == 8
    assert read_checkpoint(folder / "best.ckpt")["global_step"] == 8, "a score counts only once it is on disk"


def test_a_module_without_the_metric_is_told(tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyModule, "validation_step", lambda *_: None)
    with pytest.raises(UsageError, match="does not log 'val/dice'"):
        fit(tmp_path)


def test_a_damaged_last_is_passed_over_and_the_run_ends_the_same(tmp_path: Path, fit: Fit) -> None:
    fit(tmp_path / "untouched")
    fit(tmp_path / "damaged")
    assert read_checkpoint(previous(tmp_path / "damaged" / "checkpoints" / "last.ckpt"))["global_step"] == 9
    last = tmp_path / "damaged" / "checkpoints" / "last.ckpt"
    last.write_bytes(b"")
    with pytest.warns(UserWarning, match="passed over"):
        fit(tmp_path / "damaged")
    assert everything(tmp_path / "damaged") == everything(tmp_path / "untouched")
    assert latest(last.parent) == last
    assert read_checkpoint(previous(last))["global_step"] == 9, "a damaged file must not replace a good one"


def test_weights_are_those_of_the_step(tmp_path: Path, fit: Fit) -> None:
    trainer = fit(tmp_path)
    saved = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    assert trainer.lightning_module is not None
    for name, value in trainer.lightning_module.state_dict().items():
        assert torch.equal(saved[name], value)


def test_minutes_by_the_clock_save_at_the_next_boundary(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    class Clock(Callback):
        """A minute passes with every batch."""

        def on_train_batch_start(self, *_: Any) -> None:
            nonlocal now
            now += 60

    monkeypatch.setattr("callbacks.checkpoints.time.monotonic", lambda: now)
    saves = Saves()
    settings: dict[str, Any] = {"steps": 14, "validate": 7, "save": 100, "accumulate": 2, "dice": lambda step: 0.5}
    fit(tmp_path / "minutes", **settings, minutes=5, extra=[Clock(), saves])
    # Five minutes are up in the middle of step 3, and again of the sixth after the last: step 7 is validated first.
    assert saves.steps == [3, 6, 7, 9, 12, 14], "7 is the best one"
    progress = read_checkpoint(previous(tmp_path / "minutes" / "checkpoints" / "last.ckpt"))
    assert progress["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] == 24
    fit(tmp_path / "steps", **settings)
    for name, value in read_checkpoint(tmp_path / "minutes" / "checkpoints" / "last.ckpt")["state_dict"].items():
        assert torch.equal(value, read_checkpoint(tmp_path / "steps" / "checkpoints" / "last.ckpt")["state_dict"][name])


def test_where_minutes_are_up_at_a_validated_step_the_checkpoint_follows_it(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 10**6, 60))
    monkeypatch.setattr("callbacks.checkpoints.time.monotonic", lambda: next(ticks))
    saves = Saves()
    fit(tmp_path, steps=2, validate=2, save=100, minutes=1, extra=[saves], dice=lambda step: 0.5)
    assert saves.steps == [1, 2, 2]
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["callbacks"]["BestCheckpoint"]["step"] == 2


class FullFor(Callback):
    """No room for best.ckpt while training is at these steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: range) -> None:
        self.steps, self.step = steps, 0
        keep = KillSafeCheckpointIO._keep

        def full(target: Path) -> None:
            if target.name == "best.ckpt" and self.step in self.steps:
                raise OSError(28, os.strerror(28))
            keep(target)

        monkeypatch.setattr(KillSafeCheckpointIO, "_keep", staticmethod(full))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.step = trainer.global_step


@pytest.mark.filterwarnings("ignore:.*could not be written")
def test_best_weights_that_found_no_room_are_written_as_soon_as_there_is_some(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dice(step: int) -> float:
        return 0.9 if step == 4 else 0.1

    fit(tmp_path, steps=8, validate=2, save=2, dice=dice, extra=[FullFor(monkeypatch, range(2, 6))])
    assert read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")["global_step"] == 4
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["callbacks"]["BestCheckpoint"]["lost"] is None
    assert lost_best(tmp_path / "checkpoints") == ""


@pytest.mark.filterwarnings("ignore:.*could not be written")
@pytest.mark.parametrize(("first", "stands"), [(2, "nothing stands there"), (4, "what stands there is of step 2")])
def test_best_weights_that_never_found_room_are_told_at_the_end_and_ever_after(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch, first: int, stands: str
) -> None:
    def dice(step: int) -> float:
        return 0.9 if step == 4 else 0.1

    with pytest.raises(UsageError, match=rf"val/dice 0\.900 at step 4\).*{stands}.*checkpoint=last"):
        fit(tmp_path, steps=6, validate=2, save=2, dice=dice, extra=[FullFor(monkeypatch, range(first, 100))])
    folder = tmp_path / "checkpoints"
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == 6, "the end of training is safe"
    assert stands in lost_best(folder)
    if first == 2:
        with pytest.raises(UsageError, match=r"no best\.ckpt yet; last\.ckpt of step 6 is there: add checkpoint=last"):
            chosen(folder, "best")


@pytest.mark.filterwarnings("ignore:.*could not be written")
def test_a_run_that_is_stopped_meanwhile_goes_on_and_tells_it_at_its_end(
    tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 5:
                trainer.should_stop = True
                raise StopIteration

    settings: dict[str, Any] = {"steps": 8, "validate": 2, "save": 2}
    full = FullFor(monkeypatch, range(2, 100))
    fit(tmp_path, **settings, dice=lambda step: {2: 0.3, 4: 0.9}.get(step, 0.1), extra=[full, Stopped()])
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"val/dice 0\.900 at step 4\) could not be written and .* of step 6"):
        fit(tmp_path, **settings, dice=lambda step: 0.1)
    assert read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")["global_step"] == 6, "the best there is"
