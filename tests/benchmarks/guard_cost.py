"""What a training step pays for the guard against losses and gradients that are not finite.

    python -m tests.benchmarks.guard_cost phantom_dual_ssl data.source.cases=8 --steps 120

A real fit of the experiment takes its steps by turns, one with the guard and one without. Both kinds see the same
machine; their ratio is the median over neighbouring pairs, with the interval that bootstrapping the pairs gives. Beside
it stands what the guard took by the clock in the steps that had it; on a GPU that is mostly waiting for the device,
which a step without it does elsewhere, so that there the ratio counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from callbacks.numerics import NonFiniteGuard
from datamodules.single_source import SingleSourceDataModule
from experiments import training
from experiments.configuration import load_experiment
from experiments.console import own_words
from experiments.locate import find_experiment
from experiments.run_folder import RunFolder
from tests.benchmarks.exactness_cost import WARM_UP, Turns, interval

HOOKS = ("on_train_batch_start", "on_before_backward", "on_before_optimizer_step", "on_train_batch_end")


class GuardTurns(Turns):
    """Switches the guard off and on, step by step."""

    def spare(self, guard: NonFiniteGuard) -> None:
        """Leave the guard out of plain steps."""
        for hook in HOOKS:
            work = self.timed(getattr(guard, hook))
            setattr(guard, hook, self._by_turns(work, lambda *_, **__: None))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="a YAML file, or the name of a shipped experiment")
    parser.add_argument("overrides", nargs="*", help="key=value")
    parser.add_argument("--steps", type=int, default=120, help="half of them guarded")
    options = parser.parse_args()
    steps = WARM_UP + 2 * (options.steps // 2)
    quiet = ["logging.wandb=disabled", "trainer.progress_bar=false", f"trainer.log_every={steps}"]
    length = [f"trainer.{key}={steps}" for key in ("max_steps", "validate_every", "checkpoint_every")]
    config = load_experiment(find_experiment(options.experiment), [*options.overrides, *quiet, *length]).config
    data = SingleSourceDataModule(config.data.training(), config.seed, config.trainer.accumulate)
    data.prepare_data()
    data.setup()
    module = training.build_module(config, data)
    turns = GuardTurns()
    with tempfile.TemporaryDirectory() as scratch, own_words():
        trainer = training.build_trainer(config, RunFolder(Path(scratch)))
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set from elsewhere in Lightning
        (guard,) = (callback for callback in callbacks if isinstance(callback, NonFiniteGuard))
        turns.spare(guard)
        callbacks.append(turns)
        trainer.limit_val_batches = 0
        trainer.fit(module, datamodule=data, weights_only=True)
    guarded, plain = turns.steps[WARM_UP::2], turns.steps[WARM_UP + 1 :: 2]
    ratios = [a / b for a, b in zip(guarded, plain, strict=False)]
    low, high = interval(ratios)
    step, spent = statistics.median(plain), statistics.median(turns.spent[WARM_UP::2])
    print(f"{len(ratios)} pairs of steps; one without the guard takes {1e3 * step:.1f} ms")
    print(f"guarded : plain        {statistics.median(ratios):.4f}  (95 %: {low:.4f} to {high:.4f})")
    print(f"the guard itself       {1e3 * spent:.2f} ms a step, {100 * spent / step:.2f} % of it")


if __name__ == "__main__":
    main()
