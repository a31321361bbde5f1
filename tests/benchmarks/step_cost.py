"""What a training step of the method costs, beside one of segmentation alone.

    python -m tests.benchmarks.step_cost --filters 8,16,32,64 --patch 48 --precision bf16-mixed --threads 2
    python -m tests.benchmarks.step_cost --filters 32,64,128,256,320 --patch 96 --threads 2 --pairs 6
    python -m tests.benchmarks.step_cost --variant single_pass gin

Variants: ``dual`` is the method with its defaults, ``clean_restoration`` contrasts clean views alone and only restores
the corrupted image, ``single_pass`` corrupts half of a batch that runs through the network once. A rival is named as
in ``experiments/phantom_<rival>.yaml``, and is measured without its augmentation. All
modules take their steps (losses, backward pass, AdamW) in turn on the same patches in memory, so that whatever else the
machine does falls on all; the ratio is the median over neighbouring steps, with the interval that bootstrapping them
gives. Reading, augmentation and the gradient norms of logged steps are not in it: the first two cost all modules the
same. Memory is the most that PyTorch held at once for a step, weights and optimiser aside.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.profiler import ProfilerActivity, profile

from datamodules.atomic import write_json
from datamodules.batch import OUTSIDE_AXIS, PatchBatch
from datamodules.randomness import numpy_generator
from experiments.configuration import load_experiment
from experiments.memory import keep_freed_memory
from lightning_modules.config import ContrastiveConfig, DynUNetConfig, ModelConfig, RestorationConfig
from lightning_modules.dual_ssl import DualSSLModule, Preprocessing
from lightning_modules.regions.choices.config import BandConfig
from lightning_modules.schedules import Progress
from tests.benchmarks.exactness_cost import interval

WINDOW = (-100.0, 240.0)
LATE = Progress(step=500, total=1000)
"""All ramps are over."""
WARM_UP = 3
MAPS = ("image", "label", "distance", "axis")
VARIANTS = {
    "supervised": (ContrastiveConfig(weight=0.0), RestorationConfig(weight=0.0)),
    "dual": (ContrastiveConfig(weight=0.02), RestorationConfig()),
    "clean_restoration": (
        ContrastiveConfig(weight=0.02, views="clean"),
        RestorationConfig(segment_corrupted=False),
    ),
    "single_pass": (ContrastiveConfig(weight=0.02), RestorationConfig(passes="one", region=BandConfig())),
}


RIVALS = ("gin", "randconv", "slaug", "mixstyle", "dsu", "skeleton_contrast")
"""What costs more than its augmentation alone."""
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def patches(count: int, size: int, spacing: float, first: int) -> PatchBatch:
    """Patches around an organ of about a pancreas' size (a bent tube 120 mm long and 25 mm thick), in noise."""
    samples = []
    for index in range(first, first + count):
        rng = numpy_generator(0, index, "benchmark patch")
        x, y, z = ((np.indices((size, size, size)) - size / 2) * spacing) + rng.uniform(-15, 15, (3, 1, 1, 1))
        inside = (y - x**2 / 150) ** 2 + z**2 < 12.5**2
        inside &= abs(x) < 60
        signed = distance_transform_edt(~inside, sampling=spacing) - distance_transform_edt(inside, sampling=spacing)
        axis = np.where(inside, np.clip(x / 120 + 0.5, 0, 1), OUTSIDE_AXIS)
        image = np.clip(0.4 + 0.1 * inside + 0.1 * rng.standard_normal(inside.shape), 0, 1)
        samples.append(np.stack([image, inside, signed.clip(-100, 100), axis]))
    image, label, distance, axis = torch.tensor(np.stack(samples, 1)[:, :, None], dtype=torch.float32)
    key = torch.tensor([[0, index] for index in range(first, first + count)])
    return PatchBatch(image, label, distance, axis, key, [f"case{index}" for index in range(first, first + count)])


def module(options: argparse.Namespace, variant: str) -> DualSSLModule:
    """A module to train."""
    if variant in RIVALS:
        model = load_experiment(EXPERIMENTS / f"phantom_{variant}.yaml").config.model
    else:
        contrastive, restoration = VARIANTS[variant]
        model = ModelConfig(contrastive=contrastive, restoration=restoration)
    model.network = DynUNetConfig(filters=options.filters)
    patch = (options.patch, options.patch, options.patch)
    built = DualSSLModule(model, Preprocessing((options.spacing,) * 3, WINDOW, patch)).to(options.device)
    if options.channels_last:
        built.use_channels_last()
    return built.train()


def stepper(built: DualSSLModule, options: argparse.Namespace) -> Callable[[PatchBatch], None]:
    """One training step, over when its work is."""
    optimizer = torch.optim.AdamW(built.parameters(), lr=1e-3)

    two = built.config.consistency.weight > 0 or built.config.fusion != "none"

    def step(batch: PatchBatch) -> None:
        batch = batch._replace(second=batch.image.square() if two else None)
        with torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16-mixed"):
            total = built.losses(batch, LATE).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        if options.device == "cuda":
            torch.cuda.synchronize()

    return step


def peak(step: Callable[[PatchBatch], None], batch: PatchBatch, device: str) -> float:
    """MiB that one step holds at most beyond what was held before it."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(batch)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step(batch)
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    return float(held.max(initial=0)) / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", nargs="+", choices=(*VARIANTS, *RIVALS)[1:], default=tuple(VARIANTS)[1:])
    parser.add_argument("--filters", type=lambda text: tuple(map(int, text.split(","))), default=(8, 16, 32, 64))
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--spacing", type=float, default=3.0)
    parser.add_argument("--precision", choices=("32", "bf16-mixed"), default="bf16-mixed")
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pairs", type=int, default=20, help="steps of each module that are timed, 4 or more")
    parser.add_argument("--json", type=Path, help="a file that the numbers go to as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cpu":
        keep_freed_memory()
    batches = [patches(options.batch, options.patch, options.spacing, options.batch * i) for i in range(4)]
    batches = [made._replace(**{name: getattr(made, name).to(options.device) for name in MAPS}) for made in batches]
    steps = {name: stepper(module(options, name), options) for name in ("supervised", *options.variant)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for pair in range(WARM_UP + options.pairs):
        for name, step in steps.items():
            begin = time.perf_counter()
            step(batches[pair % len(batches)])
            times[name].append(time.perf_counter() - begin)
    memory = {name: peak(step, batches[0], options.device) for name, step in steps.items()}
    print(f"{'':17}  ms a step  ratio  (95 %)           MiB  ratio")
    found = {}
    for name in steps:
        own, base = times[name][WARM_UP:], times["supervised"][WARM_UP:]
        ratios = [d / s for d, s in zip(own, base, strict=True)]
        low, high = interval(ratios) if name != "supervised" else (1.0, 1.0)
        ms, ratio = 1e3 * statistics.median(own), statistics.median(ratios)
        found[name] = {"ms": ms, "ratio": ratio, "interval": (low, high), "mib": memory[name]}
        print(
            f"{name:17}  {ms:9.1f}  {ratio:5.2f}  "
            f"({low:.2f} to {high:.2f})  {memory[name]:8.1f}  {memory[name] / memory['supervised']:5.2f}"
        )
    if options.json is not None:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
