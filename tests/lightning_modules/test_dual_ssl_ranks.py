"""Two ranks train, record and validate as one process does on the joined batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ellipsoid_patches import ellipsoid_batch
from rank_report import Report
from torch.utils.data import DataLoader

from datamodules.batch import PatchBatch, VolumeBatch
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig, SGDConfig
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.rivals_config import ConsistencyConfig, SkeletonConfig

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
        batches = [ellipsoid_batch(local, 16, empty=(4, 5), first=f) for f in first]
        return self._loader([batch._replace(second=batch.image.square()) for batch in batches])

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        own = range(self.trainer.global_rank, CASES, self.trainer.world_size)
        return self._loader([self._volume(ellipsoid_batch(1, 16, first=case), f"case{case}") for case in own])

    def _loader(self, batches: list[Any]) -> DataLoader[Any]:
        return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]  # a list

    def _volume(self, batch: PatchBatch, case: str) -> VolumeBatch:
        return VolumeBatch(batch.image, batch.label, "site", case, "")


def train(folder: Path, ranks: int, **contrast: Any) -> list[dict[str, Any]]:
    model = ModelConfig(
        network=DynUNetConfig(filters=(4, 8, 8)),
        contrastive=ContrastiveConfig(weight=0.1, **contrast),
        consistency=ConsistencyConfig(weight=1.0),
        skeleton=SkeletonConfig(weight=0.1, stride=4, gather=contrast["gather"]),
        optimizer=SGDConfig(lr=0.05),  # AdamW makes a step of a gradient that is 0 but for its rounding
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
    (alone,) = train(tmp_path, 1, gather="grad")
    ranks = train(tmp_path, 2, gather="grad")
    for rank in ranks:
        assert rank["dice"] == pytest.approx(alone["dice"], abs=1e-3)
        assert len(rank["rows"]) == STEPS
        for found, expected in zip(rank["rows"], alone["rows"], strict=True):
            assert found == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert ranks[0]["rows"] == ranks[1]["rows"]
    weights = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")]
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], weights[2][name])
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", ["symmetric", "cohesion_separation"])
def test_without_gradient_to_other_ranks_the_losses_of_a_global_batch_are_still_those_of_one_process(
    form: str, tmp_path: Path
) -> None:
    """The first batch: from there on the weights differ, as the gradients do."""
    (alone,) = train(tmp_path, 1, gather="detached", form=form)
    for rank in train(tmp_path, 2, gather="detached", form=form):
        first = {name: value for name, value in rank["rows"][0].items() if not name.startswith("grad_norm/")}
        expected = {name: alone["rows"][0][name] for name in first}
        assert {
            f"loss/{term}" for term in ("segmentation", "contrastive", "restoration", "consistency", "skeleton")
        } <= set(first)
        assert first == pytest.approx(expected, rel=1e-4, abs=1e-6)
