"""What a training step pays for the promise that a killed run ends with the same bits.

    python -m tests.benchmarks.exactness_cost phantom_dual_ssl data.source.cases=8 --steps 120

A real fit of the experiment takes its steps by turns, one as it is and one without what exactness needs: a generator
keyed by (seed, epoch, index, purpose) is then a shared one of NumPy or torch (but for rotation, scaling and bending,
which are drawn twice for each sample and have to come out alike), and the callbacks that keep checkpoints, conditions,
signals and metrics.csv in step are not called. A step runs from the end of the one before it to its own, reading
included. Both kinds see the same machine; their ratio is the median over neighbouring pairs, with the interval that
bootstrapping the pairs gives. Beside it stands what all keyed generators and those callbacks took by the clock in the
steps that had them: the same cost without the noise of two different steps. Last, a checkpoint that is safe against
kills is written by turns with Lightning's own, and what it takes longer is spread over the steps between checkpoints.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from callbacks.checkpoint_io import KillSafeCheckpointIO
from datamodules import randomness
from datamodules.augmentation import spatial
from datamodules.single_source import SingleSourceDataModule
from experiments import training
from experiments.configuration import load_experiment
from experiments.console import own_words
from experiments.locate import find_experiment
from experiments.run_folder import RunFolder

WARM_UP = 6
KEEPERS = ("MetricsFileKeeper", "ConditionsGuard", "Preemption", "ResumeCheckpoint", "BestCheckpoint")
HOOKS = ("on_train_batch_start", "on_train_batch_end")


class Turns(Checkpoint):
    """Switches exactness off and on, step by step; one of Lightning's checkpoints by type alone, so that it comes last.

    Attributes:
        exact: whether the step that is under way has it.
        steps: seconds of each step, exact ones first of each pair.
        spent: seconds that generators and callbacks took in each exact step, and generators in each plain one.
    """

    def __init__(self) -> None:
        self.exact = True
        self.steps: list[float] = []
        self.spent: list[float] = []
        self._began = 0.0
        self._clock = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Take the time of a step and turn."""
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.steps.append(now - self._began)
        self.spent.append(self._clock)
        self.exact, self._clock, self._began = not self.exact, 0.0, time.perf_counter()

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """``work``, its time taken."""

        def run(*arguments: Any, **keywords: Any) -> Any:
            begin = time.perf_counter()
            try:
                return work(*arguments, **keywords)
            finally:
                self._clock += time.perf_counter() - begin

        return run

    def share_generators(self) -> None:
        """Let every module that draws by keys draw from shared generators in plain steps."""
        shared = np.random.default_rng(0)

        def plain_torch(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
            kind = torch.device(device)
            return torch.default_generator if kind.type == "cpu" else torch.cuda.default_generators[kind.index or 0]

        for name, plain in (("numpy_generator", lambda *key: shared), ("torch_generator", plain_torch)):
            original = getattr(randomness, name)
            chosen, kept = (self._by_turns(self.timed(original), other) for other in (self.timed(plain), original))
            for module in list(sys.modules.values()):
                if getattr(module, name, None) is original:
                    setattr(module, name, kept if module is spatial else chosen)

    def spare_callbacks(self, callbacks: Sequence[Any]) -> None:
        """Leave the keepers out of plain steps."""
        for callback in callbacks:
            if type(callback).__name__ in KEEPERS:
                for hook in HOOKS:
                    work = self.timed(getattr(callback, hook))
                    setattr(callback, hook, self._by_turns(work, lambda *_, **__: None))

    def _by_turns(self, exact: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **keywords: (exact if self.exact else plain)(*arguments, **keywords)


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """95 % of the medians of resampled pairs."""
    draw = np.random.default_rng(0).integers(len(ratios), size=(2000, len(ratios)))
    low, high = np.quantile(np.median(np.asarray(ratios)[draw], axis=1), (0.025, 0.975))
    return float(low), float(high)


def longer_to_save(trainer: pl.Trainer, folder: Path, times: int = 10) -> tuple[float, float]:
    """Seconds that a kill-safe checkpoint and one of Lightning's take, the median of saving by turns."""
    content = trainer._checkpoint_connector.dump_checkpoint()
    ways = {"here": KillSafeCheckpointIO(), "stock": TorchCheckpointIO()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times):
        for name, way in ways.items():
            begin = time.perf_counter()
            way.save_checkpoint(content, folder / f"{name}.ckpt")
            taken[name].append(time.perf_counter() - begin)
    return statistics.median(taken["here"][1:]), statistics.median(taken["stock"][1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="a YAML file, or the name of a shipped experiment")
    parser.add_argument("overrides", nargs="*", help="key=value")
    parser.add_argument("--steps", type=int, default=120, help="half of them exact, half of them plain")
    options = parser.parse_args()
    steps = WARM_UP + 2 * (options.steps // 2)
    quiet = ["logging.wandb=disabled", "trainer.progress_bar=false", f"trainer.log_every={steps}"]
    length = [f"trainer.{key}={steps}" for key in ("max_steps", "validate_every")]
    config = load_experiment(find_experiment(options.experiment), [*options.overrides, *quiet, *length]).config
    every, config.trainer.checkpoint_every = config.trainer.checkpoint_every, steps
    data = SingleSourceDataModule(config.data.training(), config.seed, config.trainer.accumulate)
    data.prepare_data()
    data.setup()
    module = training.build_module(config, data)
    turns = Turns()
    with tempfile.TemporaryDirectory() as scratch, own_words():
        trainer = training.build_trainer(config, RunFolder(Path(scratch)))
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set from elsewhere in Lightning
        turns.spare_callbacks(callbacks)
        turns.share_generators()
        callbacks.append(turns)
        trainer.limit_val_batches = 0
        trainer.fit(module, datamodule=data, weights_only=True)
        here, stock = longer_to_save(trainer, Path(scratch))
    exact, plain = turns.steps[WARM_UP::2], turns.steps[WARM_UP + 1 :: 2]
    ratios = [a / b for a, b in zip(exact, plain, strict=False)]
    low, high = interval(ratios)
    step = statistics.median(plain)
    spent = statistics.median(turns.spent[WARM_UP::2]) - statistics.median(turns.spent[WARM_UP + 1 :: 2])
    saving = (here - stock) / every
    print(f"{len(ratios)} pairs of steps; a plain one takes {1e3 * step:.1f} ms")
    print(f"exact : plain          {statistics.median(ratios):.4f}  (95 %: {low:.4f} to {high:.4f})")
    print(f"draws and callbacks    {1e3 * spent:.2f} ms a step, {100 * spent / step:.2f} % of it")
    print(f"a checkpoint           {1e3 * here:.1f} ms, Lightning's {1e3 * stock:.1f} ms")
    print(f"spread over {every} steps  {100 * saving / step:+.3f} % of a step")
    print(f"exactness costs        {100 * (spent + saving) / step:.2f} % of a step")


if __name__ == "__main__":
    main()
