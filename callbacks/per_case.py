"""Every case of the test loop judged on its own voxels, its results on disk before the next one is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback

from callbacks.measured import compared, judged
from callbacks.rows import Evaluation, write_row
from callbacks.summary import collect
from callbacks.views import keep_views
from datamodules.batch import VolumeBatch
from datamodules.native import to_native, write_native
from datamodules.store import StoredCase
from lightning_modules.dual_ssl import VolumePrediction
from lightning_modules.inference import THRESHOLD, mask_of
from lightning_modules.metrics import CaseMetrics


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
        case = StoredCase(Path(batch.folder))
        record = case.record
        probability = outputs.probability[0, 0].float().cpu().numpy()
        metrics = judged(self._compared(case, probability), case, probability, THRESHOLD)
        keep_views(
            self.evaluation,
            record,
            image=batch.image[0, 0].float().cpu().numpy(),
            label=batch.label[0, 0].cpu().numpy() > 0,
            probability=probability,
        )
        write_row(self.evaluation, record, metrics)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Wait for all ranks; rank 0 writes the table and the summary, unless the loop was stopped before its end."""
        if stage == "test":
            trainer.strategy.barrier("per-case evaluation")
            if trainer.is_global_zero and not trainer.should_stop:
                collect(self.evaluation)

    def _compared(self, case: StoredCase, probability: NDArray[np.float32]) -> CaseMetrics:
        record = case.record
        smallest = float(self.evaluation.inference.get("smallest_piece", 0))
        prediction = mask_of(to_native(probability, record), smallest).astype(np.uint8)
        if (path := self.evaluation.prediction_path(record.site, record.case)) is not None:
            write_native(path, prediction, record, note=self.evaluation.signature(record))
        return compared(case, prediction, self.evaluation.tolerance)
