"""Progress bars of training and evaluation."""

from __future__ import annotations

from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme


class ProgressBar(RichProgressBar):
    """Lightning's rich bars, in words that fit a run of steps on one site and tests on others."""

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(progress_bar="cyan", progress_bar_finished="green"))

    @property
    def validation_description(self) -> str:
        """What the bar of a validation is called."""
        return "validating on the source"

    @property
    def test_description(self) -> str:
        """What the bar of the test loop is called."""
        return "evaluating cases"

    @property
    def total_train_batches(self) -> int | float:
        """Batches of the whole run; of one that goes on, Lightning knows those that are left alone."""
        steps = self.trainer.max_steps
        return steps * self.trainer.accumulate_grad_batches if steps > 0 else super().total_train_batches

    def _get_train_description(self, current_epoch: int) -> str:
        # A run is one long epoch of unknown number: Lightning would say "Epoch 0/-2".
        return f"{'training':{len(self.validation_description)}}"
