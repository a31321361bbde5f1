"""Panels: every so often a picture of a training batch as the module sees it, ``panels/step_000500.png``.

The panel of a step is drawn right after the step, from its batch and the weights that the step has led to. All of
that is the same however often the run was killed before, and so is the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_warn

from callbacks.panel_files import panel_path, panels
from datamodules.atomic import atomic_file
from datamodules.errors import Notice
from lightning_modules.dual_ssl import DualSSLModule
from lightning_modules.panel import look

NAME = "panel"
"""What the picture is called in W&B."""


class PanelWriter(Callback):
    """Writes a panel every n steps and shows it in W&B, on the first rank alone; alters nothing of the training.

    Not one of Lightning's checkpoints and given before them: a checkpoint of a step follows the step's panel, so
    that a run which goes on from there lacks none.

    Args:
        folder: of the pictures.
        every_n_steps: optimiser steps between two panels, at least 1.
    """

    def __init__(self, folder: Path, every_n_steps: int) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self._drawn = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what an earlier life of this run drew after its last checkpoint: those steps come again."""
        if trainer.is_global_zero:
            for step, path in panels(self.folder).items():
                if step > trainer.global_step:
                    path.unlink(missing_ok=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw where a step is complete and a panel is due."""
        step = trainer.global_step
        boundary = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        due = step > self._drawn and step % self.every_n_steps == 0
        if not (boundary and due and trainer.is_global_zero):
            return
        assert isinstance(pl_module, DualSSLModule)
        self._drawn = step
        with trainer.precision_plugin.forward_context():
            seen = look(pl_module, batch, pl_module.progress())
        from callbacks.panel_picture import draw  # here, so that a run without panels is spared Matplotlib

        picture = draw(seen, step, pl_module.progress().total, pl_module.preprocessing)
        path = panel_path(self.folder, step)
        try:
            with atomic_file(path, "wb") as file:
                file.write(picture)
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    # Lightning counts the steps of its loggers from 0.
                    logger.log_image(NAME, [str(path)], step=step - 1, caption=[f"step {step}"])
        except OSError as error:
            rank_zero_warn(
                f"{path}: the panel could not be written ({error}); training goes on without it.", category=Notice
            )
