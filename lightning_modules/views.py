"""The two views of a batch that the terms of the loss compare: as it is, and with its appearance corrupted.

B sample, D H W voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from datamodules.batch import PatchBatch
from lightning_modules.networks.backbone import Features
from lightning_modules.regions.uncertainty import entropy


@dataclass
class CorruptedView:
    """The batch with its appearance corrupted, and what the network makes of it.

    Attributes:
        image: B×1×D×H×W in [0, 1], x̃.
        mask: bool B×1×D×H×W, M̃: where appearance was corrupted.
        region: bool B×1×D×H×W, M.
        encoder: encoder features by stride.
        decoded: the whole second pass; None where no term needs the decoder's part, and in a single pass.
        samples: the places in the batch of the samples that were corrupted, where one pass sees these and the others
            as they are; None where all were.
    """

    image: Tensor
    mask: Tensor
    region: Tensor
    encoder: dict[int, Tensor]
    decoded: Features | None
    samples: list[int] | None = None


@dataclass
class Views:
    """A batch and what the network makes of it.

    Attributes:
        batch: the augmented patches.
        clean: the pass of the patches as they are; in a single pass, of the batch with some of them corrupted.
        corrupted: the corrupted patches; None where nothing is restored.
        second: the pass of the patches' second appearance; None where they have one alone.
    """

    batch: PatchBatch
    clean: Features
    corrupted: CorruptedView | None = None
    second: Features | None = None

    @cached_property
    def uncertainty(self) -> Tensor:
        """U, B×1×D×H×W in [0, 1], without gradient; computed when the first term asks for it."""
        return entropy(self.clean.logits)
