"""CutMix (Yun et al., ICCV 2019) in 3-D: a box of the next sample, with all that is known of it.

The box has 1 − λ of the patch's volume, λ uniform in [0, 1], and is cut at the patch's faces, as in the paper; the
labels are not mixed by a share but pasted with their voxels. Distance and axis are pasted too: each voxel keeps its
place in its own patient's organ, also where that organ has been cut away around it.
"""

from __future__ import annotations

from torch import Tensor

from datamodules.augmentation.config import CutMixConfig
from datamodules.augmentation.draws import Draws
from datamodules.batch import PatchBatch

Box = tuple[slice, slice, slice]


def cutmix(batch: PatchBatch, config: CutMixConfig, seed: int) -> PatchBatch:
    """Paste a box of each sample's successor (of the last one, the first) into it.

    Whether and where is a sample's own draw. Its partner is of the batch that this rank holds, as published: another
    number of ranks or of accumulated batches pastes from other samples.

    Args:
        batch: augmented patches, B ≥ 2.
        config: its settings.
        seed: of the run.
    """
    maps = (batch.image, batch.label, batch.distance, batch.axis)
    image, label, distance, axis = mixed = tuple(values.clone() for values in maps)
    for sample, (epoch, index) in enumerate(batch.key.tolist()):
        box = draw_box(maps[0], config, Draws(seed, epoch, index))
        if box is None:
            continue
        for old, new in zip(maps, mixed, strict=True):
            new[(sample, 0, *box)] = old[((sample + 1) % len(old), 0, *box)]
    return PatchBatch(image, label, distance, axis, batch.key, batch.case)


def draw_box(image: Tensor, config: CutMixConfig, draws: Draws) -> Box | None:
    """The box that is pasted into a sample of B×1×D×H×W; None where none is."""
    numbers = draws.numbers("cutmix")
    if numbers.random() >= config.mixing:
        return None
    share = float(numbers.random()) ** (1 / 3)
    sides = []
    for size in image.shape[2:]:
        edge, centre = round(size * share), int(numbers.integers(size))
        start = centre - edge // 2
        sides.append(slice(max(0, start), max(0, min(size, start + edge))))
    d, h, w = sides
    return d, h, w
