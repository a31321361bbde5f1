"""What a module makes of a training batch, for people to look at. Looking leaves no trace in the training.

B sample, D H W voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datamodules.batch import PatchBatch
from lightning_modules.dual_ssl import DualSSLModule
from lightning_modules.schedules import Progress
from lightning_modules.terms import Restoration


class Look(NamedTuple):
    """A batch as the module sees it; float32 B×1×D×H×W in [0, 1], in main memory. None: the run has no such thing."""

    image: Tensor
    label: Tensor
    uncertainty: Tensor | None
    """U, the entropy of the prediction in bit; None where there is no prediction."""
    region: Tensor | None
    """M, 0 or 1."""
    corrupted: Tensor | None
    """x̃."""
    mask: Tensor | None
    """M̃, 0 or 1: the voxels of the corrupted cells."""
    restored: Tensor | None
    prediction: Tensor | None
    """Probability; None where nothing is learned of segmentation, as in pretraining."""
    case: list[str]


def look(module: DualSSLModule, batch: PatchBatch, progress: Progress) -> Look:
    """Run the passes of a batch without a gradient, in evaluation mode: no random state is read or altered.

    Nothing in here is a collective, so that one rank may look while the others go on. The contrastive term, which
    gathers the samples of all ranks, is not called.

    Args:
        module: not the wrapper that a strategy puts around it.
        batch: augmented patches.
        progress: of the training; it sets how M is chosen.
    """
    with _unseen(module):
        views = module.views(batch, progress)
        corrupted = views.corrupted
        restored = uncertainty = prediction = None
        if "restoration" in module.terms:
            restoration = module.terms["restoration"]
            assert isinstance(restoration, Restoration)
            restored = restoration.restore(views)
        if "segmentation" in module.terms:
            uncertainty, prediction = views.uncertainty, views.clean.logits.float().sigmoid()
        return Look(
            image=_plain(batch.image),
            label=_plain(batch.label),
            uncertainty=None if uncertainty is None else _plain(uncertainty),
            region=None if corrupted is None else _plain(corrupted.region),
            corrupted=None if corrupted is None else _plain(corrupted.image),
            mask=None if corrupted is None else _plain(corrupted.mask),
            restored=None if restored is None else _plain(restored.clamp(0, 1)),
            prediction=None if prediction is None else _plain(prediction),
            case=list(batch.case),
        )


@contextmanager
def _unseen(module: nn.Module) -> Iterator[None]:
    """No graph, no dropout; afterwards every part is in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def _plain(values: Tensor) -> Tensor:
    return values.detach().float().nan_to_num().cpu()
