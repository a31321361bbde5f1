"""A round: patches that Pansite's data module hands to the training step, standard augmentation done."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from served import arguments, serve

from datamodules.augmentation.config import StandardConfig
from datamodules.config import SourceData, SplitConfig
from datamodules.layouts.manifest import ManifestSite
from datamodules.single_source import SingleSourceDataModule
from experiments.memory import keep_freed_memory

told = arguments()
torch.set_num_threads(told["threads"])
keep_freed_memory()
home = Path(told["folder"])
home.mkdir(exist_ok=True)
split = home / "split.json"
split.write_text(json.dumps({"train": told["names"][:-1], "validation": told["names"][-1:]}), encoding="utf-8")
data = SingleSourceDataModule(
    SourceData(
        source=ManifestSite(name="made", root=told["manifest"]),
        patch_size=tuple(told["patch"]),
        batch_size=2,
        spacing=tuple(told["spacing"]),
        store=str(home / "store"),
        split=SplitConfig(file=str(split)),
        augmentation=StandardConfig(),
        workers=told["workers"],
    )
)
data.prepare_data()
data.setup()
loader = data.train_dataloader()
loader.sampler.batches = 10**6  # type: ignore[attr-defined]  # as many as are asked for
batches = iter(loader)


def work() -> list[int]:
    """Take batches of two."""
    for _ in range(told["batches"]):
        batch = next(batches)
    return list(batch.image.shape)


serve(work)
