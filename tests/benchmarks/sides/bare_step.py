"""A round: the steps of a bare loop, the same network, loss, optimiser and precision, on batches that lie in memory."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import torch
from served import arguments, serve

from datamodules.single_source import SingleSourceDataModule
from experiments import training
from experiments.configuration import load_experiment
from lightning_modules.losses.segmentation import segmentation_loss

told = arguments()
torch.set_num_threads(told["threads"])
config = load_experiment(Path(told["experiment"]), []).config
data = SingleSourceDataModule(config.data.training(), config.seed, config.trainer.accumulate)
data.prepare_data()
data.setup()
batches = iter(data.train_dataloader())
held = [batch for batch, _ in zip(batches, range(4), strict=False)]
held = [batch._replace(image=batch.image.contiguous(memory_format=torch.channels_last_3d)) for batch in held]
del batches
network = training.build_module(config, data).network.train()
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
training.keep_freed_memory()
stream = cycle(held)


def work() -> float:
    """Take steps; the last one's loss."""
    for _ in range(told["steps"]):
        batch = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            loss = segmentation_loss(network(batch.image).logits, batch.label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.trainer.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.detach())


work()
serve(work)
