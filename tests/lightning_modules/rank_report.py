"""What each rank of a short training saw, written down: a rank's memory is gone with its process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class Report(Callback):
    """Writes ``<ranks>-<rank>.json``, the metrics of each step and the last ``val/dice``, and the weights beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rows.append({name: float(value) for name, value in trainer.logged_metrics.items()})

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path = self.folder / f"{trainer.world_size}-{trainer.global_rank}"
        dice = float(trainer.callback_metrics.get("val/dice", torch.nan))
        path.with_suffix(".json").write_text(json.dumps({"rows": self.rows, "dice": dice}))
        torch.save(pl_module.state_dict(), path.with_suffix(".pt"))
