"""What stock Lightning does to a run that is killed, requeued or moved, and that a run here does not suffer it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader

from callbacks.checkpoint_io import KillSafeCheckpointIO, latest, read_checkpoint
from datamodules.errors import UsageError
from lightning_modules.dual_ssl import DualSSLModule
from tests import kills
from tests.callbacks.tiny import kill_now
from tests.conftest import Tiny

Fit = Callable[..., pl.Trainer]
InChild = Callable[[Callable[[], Any]], int]
SLURM = {
    "SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "train", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1",
    "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
}  # fmt: skip


class Stock(pl.LightningModule):
    """One weight that is pulled to 0; notes the batches and random numbers that it is given."""

    def __init__(self, weight: float = 8.0, losses: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.losses = losses
        self.batches: list[float] = []
        self.draws: list[float] = []
        self.epochs: list[int] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.batches.append(float(batch.sum()))
        self.draws.append(float(torch.rand(())))
        self.epochs.append(self.trainer.current_epoch)
        return self.weight.square()

    def on_train_epoch_end(self) -> None:
        if self.losses:
            self.log("loss", self.losses[self.trainer.current_epoch])

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.batches.append(float(self.weight.detach()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(batches: int = 4) -> DataLoader[Any]:
    return DataLoader([torch.full((1,), float(number)) for number in range(batches)], batch_size=1)  # type: ignore[arg-type]  # a list is a data set


def trainer(folder: Path, steps: int = -1, **settings: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    settings.setdefault("enable_checkpointing", bool(settings.get("callbacks")))
    return pl.Trainer(default_root_dir=folder, max_steps=steps, **(quiet | settings))


def as_a_slurm_job(patch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        patch.setenv(name, value)


@pytest.mark.parametrize("stock", [True, False])
def test_a_checkpoint_that_is_moved_between_file_systems_is_lost_to_a_kill_but_not_here(
    tmp_path: Path, in_child: InChild, monkeypatch: pytest.MonkeyPatch, stock: bool
) -> None:
    last = tmp_path / "last.ckpt"
    (tmp_path / "staging").mkdir()

    def content(step: int) -> dict[str, Any]:
        return {"global_step": step, "state_dict": {"w": torch.zeros(1000)}}

    def elsewhere(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    KillSafeCheckpointIO().save_checkpoint(content(1), last)
    # As between two file systems: a move can't rename, and copies.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "staging"))
    monkeypatch.setattr(os, "rename", elsewhere)
    monkeypatch.setattr(shutil, "_fastcopy_sendfile", kill_now)
    io = TorchCheckpointIO() if stock else KillSafeCheckpointIO()
    code = in_child(partial(io.save_checkpoint, content(2), last))
    if stock:
        assert code == -signal.SIGKILL
        assert last.stat().st_size == 0, "where a good one stood"
    else:
        assert code == 0
        assert read_checkpoint(last)["global_step"] == 2


def test_stock_saves_from_inside_the_signal_handler_and_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run does here instead is told by the tests of preemption."""
    as_a_slurm_job(monkeypatch)
    (tmp_path / "scontrol").write_text("#!/bin/sh\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    saved_in_the_step: list[bool] = []

    class Signalled(Stock):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            if self.trainer.global_step == 1:
                os.kill(os.getpid(), signal.SIGUSR1)
                saved_in_the_step.append((tmp_path / "hpc_ckpt_1.ckpt").is_file())
            return super().training_step(batch, batch_idx)

    module = Signalled()
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    try:
        trainer(tmp_path, 4, plugins=[SLURMEnvironment(auto_requeue=True)]).fit(module, loader())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert saved_in_the_step == [True]
    assert len(module.batches) == 4


def test_stock_takes_an_old_requeue_checkpoint_for_the_newest_in_fitting_and_for_the_given_weights_in_testing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_a_slurm_job(monkeypatch)
    old = trainer(tmp_path, 2)
    old.fit(Stock(weight=3.0), loader())
    old.save_checkpoint(tmp_path / "hpc_ckpt_1.ckpt")
    fitted = Stock()
    trainer(tmp_path, 4).fit(fitted, loader())
    assert len(fitted.batches) == 2, "it went on from another run's step 2"
    tested = Stock(weight=100.0)
    trainer(tmp_path).test(tested, loader(1), verbose=False)
    assert tested.batches[0] < 3


@pytest.mark.slow
def test_an_old_requeue_checkpoint_is_not_looked_at_here(tiny: Tiny, tmp_path: Path) -> None:
    words = ["run", str(tiny.file), "data.spacing=[9,9,9]", "evaluation.predictions=true"]
    log = tmp_path / "log.txt"
    assert kills.live([*words, f"run.root={tmp_path / 'calm'}"], log) == 0, log.read_text()
    calm = kills.only_run(tmp_path / "calm")
    run = tmp_path / "slurm" / "tiny" / calm.name
    for folder in (run, run / "checkpoints", run / "evaluation"):
        folder.mkdir(parents=True, exist_ok=True)
        stale = read_checkpoint(calm / "checkpoints" / "last.ckpt")
        stale["state_dict"] = {name: torch.zeros_like(value) for name, value in stale["state_dict"].items()}
        torch.save(stale, folder / "hpc_ckpt_9.ckpt")

    def in_a_job() -> None:
        os.environ.update(SLURM)

    code = kills.live([*words, f"run.root={tmp_path / 'slurm'}"], log, death=in_a_job)
    assert code == 0, log.read_text()
    assert kills.differences(calm, run) == []


def test_what_could_not_be_loaded_again_is_told_when_it_is_saved(tmp_path: Path) -> None:
    content = {"state_dict": {}, "hyper_parameters": {"root": tmp_path}}
    stock, here = tmp_path / "stock.ckpt", tmp_path / "here.ckpt"
    TorchCheckpointIO().save_checkpoint(content, stock)
    with pytest.raises(UsageError, match="can't be loaded"):
        read_checkpoint(stock)
    with pytest.raises(TypeError, match="could not be loaded again"):
        KillSafeCheckpointIO().save_checkpoint(content, here)
    assert not here.exists()


def test_stock_repeats_its_draws_and_its_batches_after_a_checkpoint_in_mid_epoch(tmp_path: Path) -> None:
    def life(steps: int, resume: Path | None) -> tuple[Stock, Path]:
        torch.manual_seed(0)
        module, saved = Stock(), tmp_path / f"{steps}.ckpt"
        fitting = trainer(tmp_path, steps)
        fitting.fit(module, loader(8), ckpt_path=resume)
        fitting.save_checkpoint(saved)
        return module, saved

    untouched, _ = life(6, None)
    _, saved = life(3, None)
    resumed, _ = life(6, saved)
    assert resumed.batches[0] == untouched.batches[0] != untouched.batches[3], "the epoch's first batch"
    assert resumed.draws != untouched.draws[3:], "no state of any generator is in the checkpoint"


def test_batches_and_what_is_drawn_for_them_go_on_here(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.cli import main

    seen: list[Any] = []
    step = DualSSLModule.training_step

    def noted(self: DualSSLModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append((batch.key.tolist(), batch.image.clone()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(DualSSLModule, "training_step", noted)
    words = ["fit", str(tiny.file), "data.spacing=[9,9,9]", "data.workers=2", "trainer.validate_every=6"]
    stop = -1
    assert main([*words, f"run.root={tmp_path / 'calm'}"]) == 0
    untouched = seen.copy()
    handler = signal.getsignal(signal.SIGINT)
    seen.clear()
    stop = 3
    assert main([*words, f"run.root={tmp_path / 'broken'}"]) == 130
    signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    seen.clear()
    stop = -1
    assert main([*words, f"run.root={tmp_path / 'broken'}"]) == 0
    begun = 6 - len(seen)
    assert begun in (2, 3), "from the last checkpoint on, or from where it was stopped"
    assert kills.same(seen, untouched[begun:])


def test_stock_takes_the_end_of_an_epoch_for_its_beginning(tmp_path: Path) -> None:
    class SavesAtTheEnd(Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "epoch.ckpt")

    trainer(tmp_path, 8, callbacks=[SavesAtTheEnd()], enable_checkpointing=False).fit(Stock(), loader())
    resumed = Stock()
    trainer(tmp_path, 8).fit(resumed, loader(), ckpt_path=tmp_path / "epoch.ckpt")
    assert resumed.epochs[0] == 0, "epoch 1 it is: shuffled by the epoch, the data comes in the same order again"


def test_stock_links_last_to_best_and_forgets_its_best_in_a_moved_folder(tmp_path: Path) -> None:
    def keeper(folder: Path) -> ModelCheckpoint:
        return ModelCheckpoint(folder, monitor="loss", save_last="link", save_top_k=1)

    first = keeper(tmp_path / "here")
    fitting = trainer(tmp_path, 12, callbacks=[first])
    fitting.fit(Stock(losses=(0.1, 0.5, 0.9)), loader())
    last = torch.load(tmp_path / "here" / "last.ckpt", weights_only=True)
    assert last["global_step"] < fitting.global_step, "a link to the best one, of the first epoch"
    shutil.copytree(tmp_path / "here", tmp_path / "moved", symlinks=True)
    moved = keeper(tmp_path / "moved")
    with pytest.warns(UserWarning, match="The dirpath has changed"):
        trainer(tmp_path, 16, callbacks=[moved]).fit(
            Stock(losses=(0.1, 0.5, 0.9, 0.7)), loader(), ckpt_path=tmp_path / "moved" / "last.ckpt"
        )
    assert moved.best_model_score is not None
    assert float(moved.best_model_score) > 0.1


def test_last_is_the_newest_and_best_stays_the_best_in_a_moved_folder(
    tmp_path: Path, fit: Fit, in_child: InChild
) -> None:
    class Killed(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 9:
                kill_now()

    settings = {"steps": 16, "validate": 4, "save": 2, "dice": lambda step: 0.9 if step == 4 else 0.3}
    assert in_child(partial(fit, tmp_path / "here", **settings, extra=[Killed()])) == -signal.SIGKILL
    newest = latest(tmp_path / "here" / "checkpoints")
    assert newest is not None
    assert read_checkpoint(newest)["global_step"] == 8
    shutil.move(tmp_path / "here", tmp_path / "moved")
    fit(tmp_path / "moved", **settings)
    fit(tmp_path / "untouched", **settings)
    for name in ("last", "best"):
        one, other = (
            read_checkpoint(tmp_path / run / "checkpoints" / f"{name}.ckpt") for run in ("moved", "untouched")
        )
        assert kills.same(one, other), name
