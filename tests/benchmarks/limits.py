"""How far training and predicting are from what the machine can do: the bare convolutions of the network's layers.

    python -m tests.benchmarks.limits

The limit of a step is its convolutions, each one alone, forward and backward, on arrays of the same shapes, type and
layout; that of a prediction is the convolutions of its windows, forward, of a small network. What is above the limit is
normalisation, activation, skips, losses, the optimiser, and in the method regions, corruption and contrast; in a
prediction also reading, resampling both ways and writing. All in one process, the steps by turns. The arithmetic that
the convolutions reach stands beside that of a product of large matrices of the same type.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from datamodules.layouts.site import Case
from datamodules.native import write_native
from experiments.ensemble import Member, Prediction, predict_case
from experiments.memory import keep_freed_memory
from lightning_modules.dual_ssl import InferenceSettings
from tests.benchmarks.made import SHAPE, SMALL, write_ct
from tests.benchmarks.results import Line, Scale, present
from tests.benchmarks.step_cost import module, patches, stepper
from tests.benchmarks.turns import Ratio

TITLE = "Distance from the machine's limit"
CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)
NATIVE, SPACING = (0.75, 0.75, 1.5), 1.5


@dataclass(frozen=True)
class Layer:
    """A convolution and what it is given.

    Attributes:
        layer: of the network.
        image: its input, contiguous or channels-last as it came.
        first: whether its input needs no gradient.
        operations: multiplications and additions of one forward pass.
    """

    layer: nn.Module
    image: Tensor
    first: bool
    operations: float

    def forward(self) -> None:
        """Forward alone."""
        with torch.inference_mode():
            self.layer(self.image)

    def both(self) -> None:
        """Forward and backward."""
        found = self.layer(self.image.detach().requires_grad_(not self.first))
        found.backward(torch.ones_like(found))
        self.layer.zero_grad()


def layers(network: nn.Module, image: Tensor, kind: torch.dtype) -> list[Layer]:
    """The convolutions that an image runs through, each made ``kind`` once and for all.

    Args:
        network: of the module.
        image: B×1×D×H×W.
        kind: of weights and arrays.
    """
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def look(layer: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
        seen.append((layer, given[0], found))

    hooks = [layer.register_forward_hook(look) for layer in network.modules() if isinstance(layer, CONVOLUTIONS)]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return [
        # A copy keeps its weights' layout.
        Layer(copy.deepcopy(layer).to(kind), given.to(kind), place == 0, _operations(layer, given, found))
        for place, (layer, given, found) in enumerate(seen)
    ]


def _operations(layer: nn.Module, given: Tensor, found: Tensor) -> float:
    weight, coarse = layer.weight, found if isinstance(layer, nn.Conv3d) else given
    assert isinstance(weight, Tensor)
    return 2.0 * weight.numel() * coarse.numel() / coarse.shape[1]


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def of_layers(convolutions: list[Layer], backward: bool) -> float:
    """Seconds of the convolutions, one after the other."""
    return sum(timed(each.both if backward else each.forward) for each in convolutions)


def peak_rate(kind: torch.dtype, size: int) -> float:
    """GFLOP/s of a product of two square matrices."""
    a = torch.rand(size, size).to(kind)
    return 2e-9 * size**3 / min(timed(lambda: a @ a) for _ in range(5))


def told(seconds: float, limit: float, work: float, peak: float) -> str:
    """Absolute numbers."""
    rate = 1e-9 * work / limit
    return f"{seconds:.2f} s, {limit:.2f} s; convolutions {rate:.0f} GFLOP/s, matrices {peak:.0f}"


def steps(scale: Scale) -> list[Line]:
    """A supervised step and one of the method, of the default network."""
    options = argparse.Namespace(
        filters=(4, 8, 16) if scale.quick else (32, 64, 128, 256, 320), patch=32 if scale.quick else 96,
        spacing=SPACING, precision="bf16-mixed", channels_last=True, device="cpu",
    )  # fmt: skip
    batch = patches(2, options.patch, options.spacing, 0)
    kinds = {"supervised step": "supervised", "dual_ssl step": "dual"}
    modules = {name: module(options, variant) for name, variant in kinds.items()}
    every = {name: stepper(built, options) for name, built in modules.items()}
    image = batch.image.contiguous(memory_format=torch.channels_last_3d)
    bare = layers(modules["supervised step"].network, image, torch.bfloat16)
    seconds: dict[str, list[float]] = {name: [] for name in (*every, "bare")}
    for turn in range(3 if scale.quick else 6):
        for name, step in every.items():
            seconds[name].append(timed(lambda step=step: step(batch)))  # type: ignore[misc]
        seconds["bare"].append(of_layers(bare, backward=True))
        if turn == 0:
            seconds = {name: [] for name in seconds}
    work = sum(each.operations * (2 if each.first else 3) for each in bare)
    peak, lines = peak_rate(torch.bfloat16, 256 if scale.quick else 2048), []
    for name, passes in zip(every, (1, 2), strict=True):
        limit = [passes * each for each in seconds["bare"]]
        peer = "its convolutions alone" if passes == 1 else "those of two passes"
        detail = told(median(seconds[name]), median(limit), passes * work, peak)
        lines.append(Line(name, peer, "", str(Ratio.of(seconds[name], limit)), None, detail))
    return lines


def prediction(scale: Scale) -> list[Line]:
    """A case from its file to its mask on its own grid."""
    write_ct(scale.scratch, "case", SMALL if scale.quick else SHAPE, NATIVE)
    options = argparse.Namespace(
        filters=(4, 8, 16) if scale.quick else (8, 16, 32, 64), patch=32 if scale.quick else 96,
        spacing=SPACING, channels_last=True, device="cpu",
    )  # fmt: skip
    built = module(options, "supervised").eval()
    windows: list[Tensor] = []
    begun: list[float] = []
    spent: list[float] = []

    def before(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        windows[:] = given
        begun.append(time.perf_counter())

    def behind(*_: object) -> None:
        spent.append(time.perf_counter() - begun.pop())

    hooks = [built.network.register_forward_pre_hook(before), built.network.register_forward_hook(behind)]
    member = Member(Path("none"), Path("none"), built, InferenceSettings(overlap=0.5), "none")
    case = Case("case", "case", scale.scratch / "imagesTr" / "case_0000.nii.gz", None)
    whole, passes = [], []
    for _ in range(1 if scale.quick else 3):
        spent.clear()
        whole.append(timed(lambda: _write(predict_case([member], case), scale.scratch / "mask.nii.gz")))
        passes.append(sum(spent))
    for hook in hooks:
        hook.remove()
    bare = layers(built.network, windows[0], torch.float32)
    limit = [len(spent) * of_layers(bare, backward=False) for _ in whole]
    work = len(spent) * sum(each.operations for each in bare)
    detail = told(median(whole), median(limit), work, peak_rate(torch.float32, 256 if scale.quick else 2048))
    detail += f"; the network takes {100 * sum(passes) / sum(whole):.0f} %"
    peer = "the convolutions of its windows alone"
    return [Line("predicting a case", peer, "", str(Ratio.of(whole, limit)), None, detail)]


def _write(found: Prediction, file: Path) -> None:
    write_native(file, found.label, found.record)


def measure(scale: Scale) -> list[Line]:
    """Time."""
    torch.set_num_threads(scale.threads)
    keep_freed_memory()
    return [*steps(scale), *prediction(scale)]


if __name__ == "__main__":
    present("limits", TITLE, __doc__, measure)
