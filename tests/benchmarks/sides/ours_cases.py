"""A round: training on a store of many cases, until each has been read once and some steps are taken."""

from __future__ import annotations

from pathlib import Path

import torch
from served import arguments, serve

from datamodules.augmentation.config import StandardConfig
from datamodules.config import SourceData
from datamodules.preparation import Preparation
from datamodules.single_source import SingleSourceDataModule
from datamodules.store import StoredCase
from lightning_modules.config import ContrastiveConfig, ModelConfig, RestorationConfig
from lightning_modules.dual_ssl import DualSSLModule, Preprocessing
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.schedules import Progress

told = arguments()
torch.set_num_threads(told["threads"])
patch = tuple(told["patch"])
data = SingleSourceDataModule(
    SourceData(patch_size=patch, batch_size=2, augmentation=StandardConfig(), workers=told["workers"])
)
folders = sorted(Path(told["store"]).iterdir())
kept = [StoredCase(folder) for folder in folders]
found = Preparation("many", kept, {}, len(kept), kept[0].record.spacing, Path(told["store"]))
data._prepare = lambda processes, progress: found  # type: ignore[method-assign]  # the store is simulated
data.setup()
model = ModelConfig(
    network=DynUNetConfig(filters=(8, 16, 32)),
    contrastive=ContrastiveConfig(weight=0.0),
    restoration=RestorationConfig(weight=0.0),
)
module = DualSSLModule(model, Preprocessing(data.spacing, (-100.0, 240.0), patch)).train()
optimizer = torch.optim.AdamW(module.parameters())


def work() -> int:
    """Read one epoch, and take steps on its first batches; how many cases were read."""
    seen: set[str] = set()
    for index, batch in enumerate(data.train_dataloader()):
        seen.update(batch.case)
        if index < told["steps"]:
            module.losses(batch, Progress(500, 1000)).total.backward()
            optimizer.step()
            optimizer.zero_grad()
    return len(seen)


serve(work)
