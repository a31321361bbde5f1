"""What stock tools make of a mean over the cases of several ranks, and that a mean here does not suffer it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from monai.metrics import DiceMetric
from torch.utils.data import DataLoader, DistributedSampler

from datamodules.volumes import StridedSampler
from lightning_modules.records import mean_over_cases

PATIENCE = 3.0
"""Seconds that a rank waits for the other where it is to wait in vain."""
SCORES = [1.0, 2.0, 3.0, 4.0, 5.0]


def shares(sampler: Callable[[int], Any]) -> list[list[int]]:
    """What each of two ranks is given of five cases."""
    return [list(sampler(rank)) for rank in range(2)]


def start(rank: int, work: Callable[[int], Any], folder: Path) -> None:
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    torch.save(work(rank), folder / f"{rank}.pt")


def on_two_ranks(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """What a function comes to on each of two ranks."""
    mp.start_processes(start, (work, folder), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def mean_of_share(rank: int) -> float:
    return mean_over_cases({f"case{n}": SCORES[n] for n in StridedSampler(len(SCORES), rank, 2)})


def test_a_padded_share_of_the_cases_moves_a_mean_and_an_unpadded_one_does_not(tmp_path: Path) -> None:
    """The trap: five cases on two ranks gave a mean of 2.667 for a true 3."""
    padded = shares(lambda rank: DistributedSampler(SCORES, num_replicas=2, rank=rank, shuffle=False))  # type: ignore[arg-type]
    dealt = [SCORES[n] for share in padded for n in share]
    assert round(sum(dealt) / len(dealt), 3) == 2.667
    unpadded = shares(lambda rank: StridedSampler(len(SCORES), rank, 2))
    assert sorted(n for share in unpadded for n in share) == list(range(5))
    assert on_two_ranks(mean_of_share, tmp_path) == [3.0, 3.0]


def mean_of_everything(rank: int) -> float:
    return mean_over_cases({f"case{n}": SCORES[n] for n in range(5)})


def mean_of_one_ranks_cases(rank: int) -> float:
    return mean_over_cases({} if rank else {"case0": 0.25, "case1": 0.75})


def test_a_case_that_two_ranks_saw_counts_once_and_a_rank_may_have_none(tmp_path: Path) -> None:
    for work, mean in ((mean_of_everything, 3.0), (mean_of_one_ranks_cases, 0.5)):
        folder = tmp_path / work.__name__
        folder.mkdir()
        assert on_two_ranks(work, folder) == [mean, mean]


class Ones(pl.LightningModule):
    """Logs a Dice of 1 for every case, as Lightning shows it, and keeps the rows."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.rows = folder, dict[str, float]()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("one", 1.0, sync_dist=True, batch_size=1)
        self.log("mean", float(batch_idx), sync_dist=True, batch_size=1)
        self.rows[f"case{self.trainer.global_rank + 2 * batch_idx}"] = float(batch_idx)

    def on_validation_epoch_end(self) -> None:
        ours = mean_over_cases(self.rows)
        if self.trainer.is_global_zero:
            torch.save(ours, self.folder / "ours.pt")

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader([torch.ones(1)] * (2 - self.trainer.global_rank), batch_size=None)  # type: ignore[arg-type]


def test_lightnings_mean_over_uneven_ranks_is_none_and_ours_is(tmp_path: Path) -> None:
    """The trap: three cases on two ranks, of which one has two; each rank's mean weighs the same."""
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", use_distributed_sampler=False, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    (shown,) = trainer.validate(Ones(tmp_path), verbose=False)
    ours = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert ours == 1 / 3, "cases 0, 1 and 2 scored 0, 0 and 1"
    assert shown["mean"] != ours
    assert shown["one"] == 1.5, "each case scored 1"


def aggregate_alone(rank: int) -> str:
    metric = DiceMetric()
    metric(torch.ones(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2))
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=PATIENCE))
    if rank == 0:
        try:
            metric.aggregate()
        except (RuntimeError, TypeError) as error:
            return str(error).lower()
    else:
        time.sleep(2 * PATIENCE)
    return ""


def test_aggregating_on_one_rank_alone_waits_for_ever(tmp_path: Path) -> None:
    """The trap: MONAI's aggregate is a collective; here each rank writes its rows, and the first one reads them all."""
    said, nothing = on_two_ranks(aggregate_alone, tmp_path)
    assert "timed out" in said
    assert nothing == ""
