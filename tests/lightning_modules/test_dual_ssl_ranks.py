"""Two ranks train, record and validate as one process does on the joined batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ellipsoid_patches import ellipsoid_batch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader

from datamodules.batch import PatchBatch, VolumeBatch
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig
from lightning_modules.networks.config import DynUNetConfig

STEPS = 2
BATCH = 4
CASES = 3


class Joined(pl.LightningDataModule):
    """Global batches cut contiguously among the ranks; validation cases dealt out unevenly, without padding."""

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        local = BATCH // self.trainer.world_size
        first = [step * BATCH + self.trainer.global_rank * local for step in range(STEPS)]
        # The first rank's half of the second batch holds no pancreas.
        return self._loader([ellipsoid_batch(local, 16, empty=(4, 5), first=f) for f in first])

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        own = range(self.trainer.global_rank, CASES, self.trainer.world_size)
        return self._loader([self._volume(ellipsoid_batch(1, 16, first=case), f"case{case}") for case in own])

    def _loader(self, batches: list[Any]) -> DataLoader[Any]:
        return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]  # a list

    def _volume(self, batch: PatchBatch, case: str) -> VolumeBatch:
        return VolumeBatch(batch.image, batch.label, "site", case, "")


class Report(Callback):
    """Writes what each rank knows at the end; a rank's memory is gone with its process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rows.append({name: float(value) for name, value in trainer.logged_metrics.items()})

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path = self.folder / f"{trainer.world_size}-{trainer.global_rank}"
        dice = float(trainer.callback_metrics["val/dice"])
        path.with_suffix(".json").write_text(json.dumps({"rows": self.rows, "dice": dice}))
        torch.save(pl_module.state_dict(), path.with_suffix(".pt"))


def train(folder: Path, ranks: int) -> list[dict[str, Any]]:
    model = ModelConfig(
        network=DynUNetConfig(filters=(4, 8, 8)), contrastive=ContrastiveConfig(weight=0.1, gather="grad")
    )
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=ranks,
        strategy="ddp_fork" if ranks > 1 else "auto",
        use_distributed_sampler=False,
        max_steps=STEPS,
        check_val_every_n_epoch=None,
        val_check_interval=STEPS,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Report(folder)],
    )
    trainer.fit(DualSSLModule(model, Preprocessing((3.0, 3.0, 3.0), (-100.0, 240.0), (16, 16, 16))), Joined())
    files = [folder / f"{ranks}-{rank}.json" for rank in range(ranks)]
    return [json.loads(file.read_text()) for file in files]


def test_two_ranks_are_one_process_with_the_joined_batches(tmp_path: Path) -> None:
    (alone,) = train(tmp_path, 1)
    ranks = train(tmp_path, 2)
    for rank in ranks:
        assert rank["dice"] == pytest.approx(alone["dice"], abs=1e-3)
        assert len(rank["rows"]) == STEPS
        for found, expected in zip(rank["rows"], alone["rows"], strict=True):
            assert found == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert ranks[0]["rows"] == ranks[1]["rows"]
    weights = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")]
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], weights[2][name])
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=5e-4)
