"""Every case of the test loop judged on its own voxels, its results on disk before the next one is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from callbacks.overlays import write_overlay
from callbacks.rows import Evaluation, write_row
from callbacks.summary import collect
from datamodules.batch import VolumeBatch
from datamodules.native import native_label, to_native, write_native
from datamodules.store import CaseRecord, StoredCase
from lightning_modules.dual_ssl import VolumePrediction
from lightning_modules.metrics import CaseMetrics, case_metrics

THRESHOLD = 0.5


class PerCaseEvaluation(Callback):
    """Measures each case that the test loop predicts, and at the end collects the table and the summary.

    Ranks share nothing but the folder: each writes the rows of its own cases, whole or not at all, and after the
    one barrier at the end rank 0 reads them all. A rank without any case, whose loop Lightning skips together with
    its hooks, comes to that barrier too.

    Args:
        evaluation: what is evaluated, and where the results go.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: VolumeBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Bring the probability to the case's native grid, compare, and write the case's files, the row last."""
        assert isinstance(outputs, VolumePrediction)
        record = StoredCase(Path(batch.folder)).record
        probability = outputs.probability[0, 0].float().cpu().numpy()
        metrics = self._measure(record, probability)
        write_overlay(
            self.evaluation.overlay_path(record.site, record.case),
            image=batch.image[0, 0].float().cpu().numpy(),
            label=batch.label[0, 0].cpu().numpy() > 0,
            probability=probability,
            spacing=record.spacing,
        )
        write_row(self.evaluation, record, metrics)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Wait for all ranks; rank 0 writes the table and the summary."""
        if stage == "test":
            trainer.strategy.barrier("per-case evaluation")
            if trainer.is_global_zero:
                collect(self.evaluation)

    def _measure(self, record: CaseRecord, probability: np.ndarray[Any, np.dtype[np.float32]]) -> CaseMetrics:
        prediction = (to_native(probability, record) > THRESHOLD).astype(np.uint8)
        if (path := self.evaluation.prediction_path(record.site, record.case)) is not None:
            write_native(path, prediction, record)
        spacing = np.linalg.norm(np.array(record.native_affine)[:3, :3], axis=0)
        return case_metrics(prediction, native_label(record), spacing.tolist(), self.evaluation.tolerance)
