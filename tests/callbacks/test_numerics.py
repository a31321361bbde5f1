"""A loss or gradient that is not finite costs its step and nothing else; a series of them is explained."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.numerics import FiniteAverage, NonFiniteGuard
from datamodules.batch import PatchBatch
from datamodules.errors import AgreedError
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig, RestorationConfig
from lightning_modules.dual_ssl import Losses
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.regions.choices.config import EmaTeacherConfig
from lightning_modules.schedules import Progress
from tests.conftest import Tiny
from tests.lightning_modules.ellipsoid_patches import ellipsoid_batch

Command = Callable[..., tuple[int, str, str]]
Kind = Literal["loss", "gradient", "loss alone"]
NAN, INF = float("nan"), float("inf")


def spoil(losses: Losses, kind: Kind) -> Losses:
    """The restoration's loss made NaN, its gradient made infinite, or the total NaN without any trace in a gradient."""
    weighted, results = dict(losses.weighted), dict(losses.results)
    name, loss = "restoration", weighted["restoration"]
    if kind == "loss":
        weighted[name], results[name] = loss * NAN, results[name]._replace(loss=results[name].loss * NAN)
    elif kind == "gradient":
        weighted[name] = loss + (loss - loss.detach()).sqrt()  # its slope at 0 is infinite
    else:
        return losses._replace(total=losses.total + NAN)
    return Losses(torch.stack(list(weighted.values())).sum(), weighted, results)


class Spoilt(DualSSLModule):
    """Spoils the loss of the batches that hold certain cases."""

    def __init__(self, bad: dict[str, Kind], restoration: RestorationConfig | None = None) -> None:
        model = ModelConfig(
            network=DynUNetConfig(filters=(4, 8, 8)),
            contrastive=ContrastiveConfig(weight=0.1, gather="grad"),
            restoration=restoration or RestorationConfig(),
        )
        super().__init__(model, Preprocessing((3.0,) * 3, (-100.0, 240.0), (16,) * 3))
        self.bad = bad

    def losses(self, batch: PatchBatch, progress: Progress) -> Losses:
        losses = super().losses(batch, progress)
        kinds = [self.bad[case] for case in batch.case if case in self.bad]
        return spoil(losses, kinds[0]) if kinds else losses


class Stream(pl.LightningDataModule):
    """Batches of two samples: the first batch holds cases 0 and 1, the next ones 2 and 3, … dealt out to the ranks."""

    def __init__(self, batches: int, nan_image: bool = False) -> None:
        super().__init__()
        self.batches, self.nan_image = batches, nan_image

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        ranks, rank = self.trainer.world_size, self.trainer.global_rank
        batches = [ellipsoid_batch(2, 16, first=2 * (ranks * n + rank)) for n in range(self.batches)]
        if self.nan_image:
            batches[0].image[1, 0, 3, 3, 3] = NAN
        return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]  # a list


class Witness(Callback):
    """Keeps copies of all that a step may alter."""

    def __init__(self, average: FiniteAverage | None) -> None:
        self.average, self.states, self.rates, self.scales = average, list[Any](), list[float](), list[float]()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        average = self.average and self.average._average_model
        parts = (pl_module.state_dict(), trainer.optimizers[0].state_dict()["state"], average and average.state_dict())
        self.states.append(deepcopy(parts))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        if scaler := getattr(trainer.precision_plugin, "scaler", None):
            self.scales.append(scaler.get_scale())


def train(folder: Path, bad: dict[str, Kind], steps: int = 3, **changes: Any) -> tuple[NonFiniteGuard, Witness]:
    """Train with the guard; ``changes`` are of the Trainer, or ``guard``, ``limit``, ``nan_image``, ``guarded``, …"""
    torch.set_num_threads(1)
    guard = changes.pop("guard", NonFiniteGuard)(folder, changes.pop("limit", 5))
    average = FiniteAverage(0.5, guard)
    witness = Witness(average)
    guards = [average, guard] if changes.pop("guarded", True) else [pl.callbacks.EMAWeightAveraging(decay=0.5)]
    restoration = changes.pop("restoration", None)
    stream = Stream(steps * changes.get("accumulate_grad_batches", 1), changes.pop("nan_image", False))
    trainer = pl.Trainer(
        default_root_dir=folder.parent, accelerator="cpu", use_distributed_sampler=False, max_steps=steps, logger=False,
        check_val_every_n_epoch=None, num_sanity_val_steps=0, limit_val_batches=0, log_every_n_steps=1,
        gradient_clip_val=1.0, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[*guards, witness, *changes.pop("callbacks", [])], **changes,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(many workers|LeafSpec|optimizer.step|is skipped|GPU|fork).*")
        trainer.fit(Spoilt(bad, restoration), datamodule=stream)
    return guard, witness


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["loss", "gradient", "loss alone"])
def test_a_bad_step_alters_no_weight_nor_optimiser_nor_average(tmp_path: Path, kind: Kind, precision: str) -> None:
    guard, witness = train(tmp_path, {"case2": kind}, precision=precision)
    first, second, third = witness.states
    assert same(first, second)
    assert not same(second, third)
    assert all(torch.isfinite(value).all() for value in third[0].values())
    assert (guard.skipped, guard.skipped_last) == (1, False)
    # It counts as a step: the learning rate has gone on.
    assert len(set(witness.rates)) == 3


def test_a_teacher_does_not_follow_a_step_that_was_not_taken(tmp_path: Path) -> None:
    teacher = RestorationConfig(region=EmaTeacherConfig(decay=0.5))
    _, witness = train(tmp_path, {"case2": "loss"}, restoration=teacher)
    first, second, third = (state[0] for state in witness.states)
    (name, *_) = (key for key in first if ".teacher." in key and first[key].ndim > 1)
    assert same(first, second)
    assert not torch.equal(second[name], third[name])


def test_one_bad_batch_of_those_accumulated_costs_their_step_alone(tmp_path: Path) -> None:
    guard, witness = train(tmp_path, {"case4": "loss alone"}, accumulate_grad_batches=2)
    ends = witness.states
    assert same(ends[1], ends[3]), "the second step is of batches 2 and 3"
    assert same(ends[3], ends[4]), "nor does the average move while the next step is gathered"
    assert not same(ends[4], ends[5])
    assert guard.skipped == 1


def test_with_all_finite_no_bit_is_other_than_without_the_guard(tmp_path: Path) -> None:
    settings = {"accumulate_grad_batches": 2, "precision": "bf16-mixed"}
    _, guarded = train(tmp_path, {}, **settings)
    _, free = train(tmp_path, {}, guarded=False, **settings)
    assert same([state[:2] for state in guarded.states], [state[:2] for state in free.states])
    assert not same(guarded.states[1][0], guarded.states[3][0])


def test_an_overflow_is_counted_and_held_against_the_run_once_the_scaler_has_no_room_left(
    tmp_path: Path,
) -> None:
    every = {f"case{n}": "gradient" for n in range(0, 12, 2)}
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0))
    with pytest.raises(AgreedError, match="in 2 steps in a row") as caught:
        train(tmp_path, every, steps=6, limit=2, plugins=[plugin])  # type: ignore[arg-type]  # keys are literals
    # Scales 8, 4 and 2 were tries; then 1 and 1/2 were of no use.
    assert caught.value.args[0].startswith("step 5: ")
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0))
    guard, witness = train(tmp_path, {"case0": "gradient", "case2": "gradient"}, steps=4, plugins=[plugin])
    assert guard.skipped == 2
    assert witness.scales == [4.0, 2.0, 2.0, 2.0]
    assert same(witness.states[0][0], witness.states[1][0])
    assert not same(witness.states[1][0], witness.states[2][0])


def test_a_loss_that_is_nan_is_held_against_the_run_whatever_the_scale(tmp_path: Path) -> None:
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    with pytest.raises(AgreedError, match=r"^step 2: .*the loss restoration is nan for cases case2, case3"):
        train(tmp_path, {"case0": "loss", "case2": "loss"}, limit=2, plugins=[plugin])


@pytest.mark.parametrize(
    ("bad", "nan_image", "words"),
    [
        ({"case0": "loss"}, False, "the loss restoration is nan for cases case0, case1;"),
        ({"case0": "gradient"}, False, "the gradient of restoration is not finite for cases case0, case1;"),
        ({"case0": "loss alone"}, False, "computed again from the same batch they are finite"),
        ({}, True, "the image of case case1 is not finite;"),
    ],
)
def test_a_series_stops_the_run_and_names_the_reason(
    tmp_path: Path, bad: dict[str, Kind], nan_image: bool, words: str
) -> None:
    with pytest.raises(AgreedError) as caught:
        train(tmp_path, bad, limit=1, nan_image=nan_image)
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.startswith("step 1: ")
    assert "precision 32-true" in sentence
    assert "\n" not in sentence
    kept = torch.load(tmp_path / "step_1_rank_0.pt", weights_only=True)
    assert (kept["step"], kept["rank"], kept["precision"]) == (1, 0, "32-true")
    (batch,) = kept["batches"]
    again = PatchBatch(**batch)
    assert again.case == ["case0", "case1"]
    assert torch.equal(again.label, ellipsoid_batch(2, 16).label)
    # It can be looked at: the module takes it as it is.
    losses = Spoilt(bad).losses(again, Progress(0, 3))
    assert torch.isfinite(losses.results["restoration"].loss) == ("loss restoration" not in words and not nan_image)
    assert set(kept["losses"][0]) == set(kept["gradients_finite"][0]) == {"segmentation", "contrastive", "restoration"}


def test_a_full_disk_does_not_hide_the_reason(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    with pytest.raises(AgreedError, match=r"the loss restoration is nan.*could not be kept in"):
        train(tmp_path / "kept", {"case0": "loss"}, limit=1)


class Report(Callback):
    """Writes how a rank ended; its memory is gone with its process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(pl_module.state_dict(), self.folder / f"end_{trainer.global_rank}.pt")


class Telling(NonFiniteGuard):
    """Writes what each rank raises, before torch ends the other forks because one has failed."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, *rest: Any) -> None:
        try:
            super().on_before_optimizer_step(trainer, *rest)
        except AgreedError as error:
            (self.folder / f"error_{trainer.global_rank}.txt").write_text(str(error))
            trainer.strategy.barrier()
            raise


def test_one_ranks_bad_loss_is_all_ranks_skipped_step(tmp_path: Path) -> None:
    # The second rank of two has cases 6 and 7 in the second batch; no gradient tells the first rank of it.
    together = {"devices": 2, "strategy": "ddp_fork"}
    train(tmp_path, {"case6": "loss alone"}, callbacks=[Report(tmp_path)], **together)
    first, second = (torch.load(tmp_path / f"end_{rank}.pt", weights_only=True) for rank in (0, 1))
    assert same(first, second)
    train(tmp_path / "calm", {}, callbacks=[Report(tmp_path)], **together)
    calm = torch.load(tmp_path / "end_0.pt", weights_only=True)
    assert not same(first, calm)

    with pytest.raises(Exception, match="step 2"):
        train(tmp_path, {"case6": "loss"}, limit=1, guard=Telling, **together)
    errors = [(tmp_path / f"error_{rank}.txt").read_text() for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert errors[0].startswith("step 2: ")
    assert "the loss restoration is nan for cases case6, case7 on rank 1 of 2;" in errors[0]
    cases = [
        torch.load(tmp_path / f"step_2_rank_{rank}.pt", weights_only=True)["batches"][0]["case"] for rank in (0, 1)
    ]
    assert cases == [["case4", "case5"], ["case6", "case7"]]


@pytest.mark.slow
def test_a_run_counts_skipped_steps_stops_with_a_sentence_and_keeps_its_checkpoint(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", tiny.file, f"run.root={tmp_path}", "trainer.nonfinite_limit=2", "trainer.ema=0.9")
    calm = DualSSLModule.losses
    bad = {2, 4, 5}

    def losses(self: DualSSLModule, batch: PatchBatch, progress: Progress) -> Losses:
        computed = calm(self, batch, progress)
        return spoil(computed, "loss") if progress.step + 1 in bad else computed

    monkeypatch.setattr(DualSSLModule, "losses", losses)
    code, _, err = pansite(*words)
    assert code == 2
    assert err.count("error:") == 1
    assert "step 5: loss or gradient was not finite in 2 steps in a row" in err
    assert [line for line in err.splitlines() if "skipped so far" in line] == [
        "warning: step 2: the loss is not finite, so the step is skipped (1 skipped so far).",
        "warning: step 4: the loss is not finite, so the step is skipped (2 skipped so far).",
    ]
    (run,) = (path.parent for path in tmp_path.glob("tiny/*/config.yaml"))
    assert [path.name for path in (run / "nonfinite").iterdir()] == ["step_5_rank_0.pt"]
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert all(torch.isfinite(value).all() for value in last["state_dict"].values())

    # The same command stops at the same place; once the reason is gone it goes on and remembers.
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    assert pansite(*words)[0] == 2
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    bad.clear()
    code, out, err = pansite(*words)
    assert code == 0, err
    assert "going on from step 4" in out
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["skipped"]) for row in rows] == [0, 1, 1, 2, 2, 2]
    assert rows[1]["loss/restoration"] == "nan"
    assert (run / "evaluation" / "report.html").is_file()
