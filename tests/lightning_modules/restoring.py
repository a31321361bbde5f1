"""Small modules that restore, in every variant, and batches with odd masks."""

from __future__ import annotations

from typing import Any

import torch
from ellipsoid_patches import ellipsoid_batch, part
from torch import Tensor

from datamodules.batch import PatchBatch
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig, RestorationConfig, SGDConfig
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.regions.choices.config import REGIONS
from lightning_modules.schedules import Progress

FULL = Progress(50, 100)
"""All ramps are over."""
NAMES = REGIONS.names()
BLIND = [name for name in NAMES if not REGIONS.config_class(name).needs_prediction]
VARIANTS = [("two", name) for name in NAMES] + [("one", name) for name in BLIND]
"""Passes, and how M is chosen in them."""


def build(region: str = "entropy+band", contrast: float = 0.1, seed: int = 0, **restoration: Any) -> DualSSLModule:
    """A module for patches of 16³ at 3 mm; ``restoration`` are settings of the term.

    Its optimiser is one that does not make much of gradients that are all but 0.
    """
    model = ModelConfig(
        network=DynUNetConfig(filters=(4, 8, 8)),
        contrastive=ContrastiveConfig(weight=contrast, slots=(4, 16, 8, 8)),
        restoration=RestorationConfig(region=REGIONS.config_class(region)(), **restoration),
        optimizer=SGDConfig(lr=0.1, momentum=0.5),
    )
    return DualSSLModule(model, Preprocessing((3.0, 3.0, 3.0), (-100.0, 240.0), (16, 16, 16)), seed)


def joined(samples: list[PatchBatch]) -> PatchBatch:
    """Batches as one."""
    image, label, distance, axis, key = (torch.cat([sample[i] for sample in samples]) for i in range(5))  # type: ignore[arg-type]  # its five tensors
    return PatchBatch(image, label, distance, axis, key, [case for sample in samples for case in sample.case])


def some(batch: PatchBatch, places: list[int]) -> PatchBatch:
    """Some samples of a batch, in that order."""
    return joined([part(batch, place) for place in places])


def odd_batch() -> PatchBatch:
    """Four patches: an empty mask, a full one, one of a single voxel, and intensities far out."""
    batch = ellipsoid_batch(4, 16, empty=(0, 1, 2))
    for field, full, single in ((batch.label, 1.0, 1.0), (batch.distance, -100.0, -1.5), (batch.axis, 0.5, 0.0)):
        field[1] = full
        field[2, :, 8, 8, 8] = single
    batch.image[3] *= 6e4
    return batch


def reached(module: DualSSLModule, loss: Tensor) -> set[str]:
    """The parts of the module whose weights a loss has a gradient to."""
    parts = {
        "encoder": module.network.encoder,
        "decoder": module.network.decoder.stages,
        "segmentation head": module.network.decoder.output,
        **{name: term for name, term in module.terms.items() if name != "segmentation"},
    }
    module.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, part in parts.items() if any(p.grad is not None and p.grad.any() for p in part.parameters())}
