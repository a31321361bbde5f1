"""Every backbone carries the whole method: terms, precision, checkpoints, ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ellipsoid_patches import ellipsoid_batch
from small_networks import SMALL
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batch import PatchBatch, VolumeBatch
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig, SegmentationConfig
from lightning_modules.loading import load_module
from lightning_modules.regions.choices.config import BandConfig
from lightning_modules.schedules import Progress

EACH = pytest.mark.parametrize("name", SMALL)
FULL = Progress(50, 100)
PATCH = (64, 32, 32)
"""What SwinUNETR asks for."""


def build(name: str, pretrain: bool = False) -> DualSSLModule:
    model = ModelConfig(network=SMALL[name], contrastive=ContrastiveConfig(weight=0.1))
    if pretrain:
        model.segmentation = SegmentationConfig(0.0)
        model.restoration.region = BandConfig()
    return DualSSLModule(model, Preprocessing((3.0, 3.0, 3.0), (-100.0, 240.0), PATCH))


def patches(samples: int = 2, first: int = 0) -> PatchBatch:
    """64×32×32 from the middle of a cube."""
    batch = ellipsoid_batch(samples, 64, first=first)
    image, label, distance, axis = (values[:, :, :, 16:48, 16:48].contiguous() for values in batch[:4])
    return PatchBatch(image, label, distance, axis, batch.key, batch.case)


def volume(case: str) -> VolumeBatch:
    batch = patches(1)
    return VolumeBatch(batch.image, batch.label, "site", case, "")


@EACH
def test_each_term_pulls_at_the_encoder_and_all_weights_are_reached(name: str) -> None:
    module = build(name)
    losses = module.losses(patches(), FULL)
    assert list(losses.weighted) == ["segmentation", "contrastive", "restoration"]
    for term, loss in losses.weighted.items():
        gradients = torch.autograd.grad(loss, module.network.encoder_parameters(), retain_graph=True, allow_unused=True)
        assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0, term
    losses.total.backward()
    assert [key for key, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@EACH
def test_without_segmentation_what_trains_is_what_the_loss_reaches_in_bf16_too(name: str) -> None:
    module = build(name, pretrain=True)
    module.use_channels_last()
    with torch.autocast("cpu", torch.bfloat16):
        losses = module.losses(patches(), FULL)
    losses.total.backward()
    reached = {key for key, p in module.named_parameters() if p.grad is not None}
    assert reached == {key for key, p in module.named_parameters() if p.requires_grad}
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


@EACH
def test_a_checkpoint_rebuilds_the_module(name: str, tmp_path: Path) -> None:
    module = build(name)
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, loader([patches()]))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load_module(tmp_path / "last.ckpt")
    assert loaded.config == module.config
    image = patches(1).image
    assert torch.equal(loaded(image), module.eval()(image))


def loader(batches: list[Any]) -> DataLoader[Any]:
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]  # a list will do


class Joined(pl.LightningDataModule):
    """Global batches of 2 shared out among the ranks; three validation cases, of which one rank has two."""

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        local = 2 // self.trainer.world_size
        return loader([patches(local, 2 * step + self.trainer.global_rank * local) for step in range(3)])

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return loader([volume(str(i)) for i in range(self.trainer.global_rank, 3, self.trainer.world_size)])


class Keep(pl.Callback):
    """Writes a rank's weights; its memory is gone with its process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(pl_module.state_dict(), self.folder / f"{trainer.global_rank}.pt")


def fit_on_two_ranks(module: DualSSLModule, folder: Path) -> list[dict[str, Tensor]]:
    trainer = pl.Trainer(
        default_root_dir=folder, max_steps=3, accelerator="cpu", devices=2, strategy="ddp_fork", logger=False,
        use_distributed_sampler=False, check_val_every_n_epoch=None, val_check_interval=1, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1,
        callbacks=[Keep(folder)],
    )  # fmt: skip
    trainer.fit(module, Joined())
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dynunet", "swin_unetr"])
def test_two_ranks_pretrain_without_a_search_for_unused_parameters(name: str, tmp_path: Path) -> None:
    module = build(name, pretrain=True)
    frozen = {key for key, p in module.named_parameters() if not p.requires_grad}
    start = {key: value.clone() for key, value in module.state_dict().items()}
    one, two = fit_on_two_ranks(module, tmp_path)
    for key, value in one.items():
        assert torch.equal(value, two[key]), key
    assert {key for key, p in module.named_parameters() if torch.equal(one[key], start[key])} == frozen
