"""A run that a signal stops anywhere, and that goes on, ends as the one that was never touched."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from pytorch_lightning.loggers import WandbLogger

from callbacks.checkpoint_io import read_checkpoint
from callbacks.metrics_file import read_metrics
from callbacks.preemption import Preemption, mark_preempting
from callbacks.requests import Request
from tests.callbacks.test_checkpoints import Saves, everything

Fit = Callable[..., pl.Trainer]


class Asked:
    """Stands in for the recorder of signals."""

    def __init__(self) -> None:
        self.request = 0
        self.deferred: list[bool] = []

    def requested(self) -> int:
        return self.request

    def defer(self) -> None:
        self.deferred.append(True)

    def release(self) -> None:
        self.deferred.append(False)


class AskAt(Callback):
    """A signal that comes in a hook at a step."""

    def __init__(self, signals: Asked, hook: str, step: int) -> None:
        def maybe(trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == step:
                signals.request = Request.PREEMPT

        setattr(self, hook, maybe)


# Twenty steps, validated every 4, saved every 3: hook and step at which the signal comes, step after which it stops.
MOMENTS = [
    ("on_train_start", 0, 0),
    ("on_before_backward", 0, 1),
    ("on_train_batch_end", 2, 2),
    ("on_before_optimizer_step", 3, 4),  # a validation is due
    ("on_train_batch_end", 5, 5),
    ("on_validation_start", 8, 8),
    ("on_before_zero_grad", 9, 10),
    ("on_validation_end", 12, 12),
    ("on_train_batch_start", 13, 14),
    ("on_save_checkpoint", 15, 16),
    ("on_train_batch_end", 20, 20),  # the end
]


@pytest.mark.parametrize("variant", ["plain", "accumulated and averaged"])
def test_a_run_that_was_stopped_at_every_turn_ends_as_the_undisturbed_one(
    fit: Fit, tmp_path: Path, variant: str
) -> None:
    settings: dict[str, Any] = {"log": 3, "steps": 20, "accumulate": 1 if variant == "plain" else 2}

    def averaged() -> list[Callback]:
        return [] if variant == "plain" else [EMAWeightAveraging(decay=0.8)]

    fit(tmp_path / "calm", extra=averaged(), **settings)
    for hook, step, stop in MOMENTS:
        asked = Asked()
        preemption, saves = Preemption(asked), Saves()
        extra = [*averaged(), AskAt(asked, hook, step), preemption, saves]
        trainer = fit(tmp_path / "stopped", extra=extra, **settings)
        assert preemption.agreed == Request.PREEMPT, hook
        assert (trainer.global_step, read_step(tmp_path / "stopped")) == (stop, stop), hook
        assert all(saved % 3 == 0 or saved % 4 == 0 or saved == stop for saved in saves.steps), hook
    calm, stopped = (everything(tmp_path / name) for name in ("calm", "stopped"))
    # Lightning repeats what is not measured at every step; what is, has the same rows, none more.
    del calm["metrics"], stopped["metrics"]
    assert stopped == calm
    assert rows(tmp_path / "stopped") == rows(tmp_path / "calm")


def test_two_requests_are_heeded_as_the_graver_one_and_a_run_without_any_goes_on(fit: Fit, tmp_path: Path) -> None:
    asked = Asked()
    preemption = Preemption(asked)
    assert fit(tmp_path, steps=3, extra=[preemption]).global_step == 3
    assert (preemption.agreed, asked.deferred) == (0, [True])
    assert max(Request.PREEMPT, Request.TERMINATE, Request.INTERRUPT) == Request.INTERRUPT


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_it(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a stopped run is none that a run could go on from."""
    asked = Asked()
    fit(tmp_path / "calm", steps=9)

    class FullAt(Callback):
        def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 4:
                monkeypatch.setattr("callbacks.checkpoint_io.KillSafeCheckpointIO._keep", full)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.warns(UserWarning, match="the checkpoint of step 5 could not be written"):
        fit(tmp_path / "full", steps=9, extra=[AskAt(asked, "on_before_backward", 4), FullAt(), Preemption(asked)])
    assert read_step(tmp_path / "full") == 3
    monkeypatch.undo()
    fit(tmp_path / "full", steps=9)
    assert everything(tmp_path / "full") == everything(tmp_path / "calm")


def test_lightnings_own_handlers_stay_out(fit: Fit, tmp_path: Path) -> None:
    seen: list[Any] = []

    class Look(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            seen.append([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)])

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    fit(tmp_path / "without", steps=1, extra=[Look()])
    assert seen.pop() != before, "the trap is there: Lightning installs handlers"
    fit(tmp_path / "with", steps=1, extra=[Look(), Preemption(Asked())])
    assert seen.pop() == before


def test_wandb_is_told_of_a_preemption_alone_and_a_fault_of_its_costs_a_sentence(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Run:
        def mark_preempting(self) -> None:
            told.append("preempting")
            raise ConnectionError("no network")

    monkeypatch.setattr(WandbLogger, "experiment", Run())

    class Wandb(WandbLogger):
        def __init__(self) -> None:
            """No account, no folder."""

    class Trainer:
        loggers = (Wandb(),)

    with pytest.warns(UserWarning, match="no network"):
        mark_preempting(Trainer())  # type: ignore[arg-type]
    assert told == ["preempting"]

    marked: list[int] = []
    monkeypatch.setattr("callbacks.preemption.mark_preempting", lambda trainer: marked.append(trainer.global_step))
    for request in (Request.PREEMPT, Request.TERMINATE, Request.INTERRUPT):
        asked = Asked()
        asked.request = request
        fit(tmp_path / request.name, steps=3, extra=[Preemption(asked)])
    assert marked == [0]


def rows(folder: Path) -> list[list[float | None]]:
    """What is measured at every step, in the rows of the metrics."""
    return [
        [row.get(name) for name in ("step", "loss/total", "val/dice")] for row in read_metrics(folder / "metrics.csv")
    ]


def read_step(folder: Path) -> int:
    path = folder / "checkpoints" / "last.ckpt"
    return int(read_checkpoint(path)["global_step"]) if path.is_file() else 0
