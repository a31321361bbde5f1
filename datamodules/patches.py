"""Training patches as the store has them, whole numbers, cut with the margin that their augmentation needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.sampling import Stream, Voxel, patch_centre
from datamodules.store import AXIS_OUTSIDE, DISTANCE_SCALE, HU_RANGE, StoredCase, Window

FAR = 100
"""Distance to the surface, in mm, that stands for any farther one and for what lies outside the volume."""


class RawPatch(NamedTuple):
    """One patch with its margin; the patch is in the middle of each array."""

    image: Tensor
    """Int16 D×H×W, HU."""
    label: Tensor
    """Uint8 D×H×W, 0 or 1."""
    distance: Tensor
    """Int16 D×H×W, 1/100 mm."""
    axis: Tensor
    """Uint8 D×H×W, as the store has it."""
    key: tuple[int, int]
    """(epoch, index)."""
    case: str


class RawPatchBatch(NamedTuple):
    """Raw patches on their way to the device. Lists, because the margin is each sample's own."""

    image: list[Tensor]
    label: list[Tensor]
    distance: list[Tensor]
    axis: list[Tensor]
    key: list[tuple[int, int]]
    case: list[str]


class Margin(Protocol):
    """What tells how much must be read around a patch (an augmentation)."""

    def margin(self, epoch: int, index: int) -> Voxel:
        """Voxels along D, H, W to read on either side of the patch of a sample."""
        ...


class PatchDataset(Dataset[RawPatch]):
    """The patch at a position of the training stream.

    Args:
        cases: the training cases, in the order that the stream counts them.
        stream: what stands at a position.
        patch_size: D, H, W of a patch.
        margin: the augmentation that the patches are read for.
    """

    def __init__(self, cases: Sequence[StoredCase], stream: Stream, patch_size: Voxel, margin: Margin) -> None:
        self.cases = list(cases)
        self.stream = stream
        self.patch_size = patch_size
        self.margin = margin

    def __getitem__(self, position: int) -> RawPatch:
        place = self.stream.place(position)
        case = self.cases[place.case]
        foreground = case.foreground() if place.foreground else None
        centre = patch_centre(place, self.stream.seed, case.record.shape, foreground)
        margin = self.margin.margin(place.epoch, place.index)
        start = tuple(c - p // 2 - m for c, p, m in zip(centre, self.patch_size, margin, strict=True))
        size = tuple(p + 2 * m for p, m in zip(self.patch_size, margin, strict=True))

        def read(array: Callable[[Window], NDArray[Any]], outside: int) -> Tensor:
            return torch.from_numpy(read_padded(array, case.record.shape, start, size, outside))

        return RawPatch(
            image=read(case.image, HU_RANGE[0]),
            label=read(case.label, 0),
            distance=read(case.distance, FAR * DISTANCE_SCALE),
            axis=read(case.axis, AXIS_OUTSIDE),
            key=(place.epoch, place.index),
            case=case.record.case,
        )


def read_padded(
    read: Callable[[Window], NDArray[Any]],
    shape: Sequence[int],
    start: Sequence[int],
    size: Sequence[int],
    outside: int,
) -> NDArray[Any]:
    """A box of a volume that may reach out of it.

    Args:
        read: gives the part of the volume within slices along D, H, W.
        shape: of the volume.
        start: first voxel of the box, possibly negative.
        size: of the box.
        outside: value of what lies outside the volume.

    Returns:
        An array of shape ``size`` that owns its memory.
    """
    low = [min(max(s, 0), n) for s, n in zip(start, shape, strict=True)]
    high = [min(max(s + z, 0), n) for s, z, n in zip(start, size, shape, strict=True)]
    inside = read((slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])))
    if inside.shape == tuple(size):
        return np.ascontiguousarray(inside)
    box = np.full(size, outside, dtype=inside.dtype)
    box[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))] = inside
    return box


def collate(patches: Sequence[RawPatch]) -> RawPatchBatch:
    """Put patches side by side without copying them."""
    return RawPatchBatch(*(list(values) for values in zip(*patches, strict=True)))
