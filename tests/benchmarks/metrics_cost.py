"""What each part of a case's evaluation takes of the processor: prediction, the way to its own grid, the metrics.

    python -m tests.benchmarks.metrics_cost runs/phantom_supervised --cases 4

``details`` are recall by third, band Dice, calibration and uncertainty; the last line is their ratio to all the rest.
Processor time, not the clock's: others may share the machine. The run's data are where it was evaluated on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from callbacks.checkpoint_io import chosen
from datamodules.held_out import HeldOutDataModule
from datamodules.native import native_grid, native_label, to_native
from datamodules.native_thirds import native_thirds
from datamodules.split import Split
from datamodules.store import DISTANCE_SCALE, StoredCase
from datamodules.volumes import volume_loader
from experiments.configuration import load_experiment
from experiments.evaluation import inference_settings
from experiments.locate import find_runs
from experiments.run_folder import RunFolder
from lightning_modules.loading import load_module
from lightning_modules.metrics.band import band_dice
from lightning_modules.metrics.calibration import expected_calibration_error
from lightning_modules.metrics.protocol import RING_MM
from lightning_modules.metrics.surfaces import SurfaceDistances
from lightning_modules.metrics.uncertainty import mean_entropy

T = TypeVar("T")


class Clock:
    """Processor seconds by part, a list of cases each."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    def __call__(self, part: str, work: Callable[..., T], *args: Any) -> T:
        begin = time.process_time()
        found = work(*args)
        self.taken.setdefault(part, []).append(time.process_time() - begin)
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="an evaluated run")
    parser.add_argument("--cases", type=int, default=8)
    options = parser.parse_args()
    run = RunFolder(find_runs(options.run)[0])
    config = load_experiment(run.config).config
    module = load_module(chosen(run.checkpoints, config.evaluation.checkpoint)).eval()
    module.inference = inference_settings(config.evaluation)
    data = HeldOutDataModule(config.data, Split.from_dict(run.read_split()), module.preprocessing.spacing)
    data.setup()
    # Of all sites alike.
    chosen_cases = data.cases[:: max(1, len(data.cases) // options.cases)][: options.cases]
    clock = Clock()
    for case, batch in zip(chosen_cases, volume_loader(chosen_cases, config.data.window, 0, 1), strict=True):
        probability = clock("prediction", module.predict_probability, batch.image)[0, 0].float().numpy()
        one(clock, StoredCase(case.folder), probability, config.evaluation.tolerance)
    for part, seconds in clock.taken.items():
        print(f"{part:<22}{1000 * statistics.fmean(seconds):8.1f} ms a case")
    details = sum(clock.taken["details"])
    rest = sum(sum(seconds) for part, seconds in clock.taken.items() if part != "details")
    print(f"details / all the rest {details / rest:8.3f}, over {len(chosen_cases)} cases")


def one(clock: Clock, case: StoredCase, probability: np.ndarray, tolerance: float) -> None:
    """What :mod:`callbacks.measured` does with a case, part by part."""
    spacing = native_grid(case.record).spacing.tolist()
    native = clock("to the native grid", to_native, probability, case.record) > 0.5
    reference = clock("reading the label", native_label, case.record) > 0
    if not (native.any() and reference.any()):
        return

    def surfaces() -> None:
        found = SurfaceDistances.between(native, reference, spacing)
        found.nsd(tolerance), found.hausdorff(0.95), found.mean()

    def details() -> None:
        native_thirds(case, reference)
        band_dice(native, reference, spacing)
        expected_calibration_error(probability, case.label() > 0, case.distance() <= RING_MM * DISTANCE_SCALE)
        mean_entropy(probability)

    clock("surfaces", surfaces)
    clock("details", details)


if __name__ == "__main__":
    main()
