"""The pancreas' spatial structure on the grid of the features: one region per feature cell.

B sample, D H W voxels, d h w cells; a cell at stride k spans k×k×k voxels. Positive parcels are thirds of the
head-to-tail axis × {core, rim}; the background is cut into three rings around the pancreas. A partition may merge them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from lightning_modules.regions.bounds import Bounds

PARCEL_NAMES = ("head_core", "head_rim", "body_core", "body_rim", "tail_core", "tail_rim")
RING_NAMES = ("near", "mid", "far")
REGION_NAMES = PARCEL_NAMES + RING_NAMES
"""Names of the finest regions; a region's id is its position here."""

Structure = Literal["both", "axis", "shells", "none"]
Rings = Literal["three", "one"]


@dataclass(frozen=True)
class Partition:
    """Which of the finest regions count as one.

    Attributes:
        parcels: names of the regions inside the pancreas.
        rings: names of those outside; a region's id is its position among the parcels and then the rings.
        region: for each of :data:`REGION_NAMES` the id of the region that it is part of.
    """

    parcels: tuple[str, ...]
    rings: tuple[str, ...]
    region: tuple[int, ...]

    @classmethod
    def of(cls, structure: Structure = "both", rings: Rings = "three") -> Partition:
        """The partition of that name.

        Args:
            structure: what the pancreas is cut by: thirds of the axis, core and rim, both, or not at all.
            rings: three around it, or all that is not pancreas as one.
        """
        inside = [_parcel(name, structure) for name in PARCEL_NAMES]
        outside = [name if rings == "three" else "background" for name in RING_NAMES]
        names = list(dict.fromkeys(inside + outside))
        parcels = len(dict.fromkeys(inside))
        region = tuple(names.index(name) for name in inside + outside)
        return cls(tuple(names[:parcels]), tuple(names[parcels:]), region)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all regions, by id."""
        return self.parcels + self.rings

    def merged(self, finest: Sequence[int]) -> tuple[int, ...]:
        """For each region the sum of a number that is known of each finest one."""
        return tuple(
            sum(number for number, region in zip(finest, self.region, strict=True) if region == i)
            for i in range(len(self.names))
        )


def _parcel(name: str, structure: Structure) -> str:
    third, _, shell = name.partition("_")
    return {"both": name, "axis": third, "shells": shell, "none": "pancreas"}[structure]


FINEST = Partition.of()
"""Nothing merged."""


def voxel_regions(distance: Tensor, axis: Tensor, bounds: Bounds) -> Tensor:
    """Region of every voxel.

    Pancreas to which the axis gives no coordinate (all of it under ``axis: none``) counts as body, so that without
    an axis core and rim remain.

    Args:
        distance: …×D×H×W, signed distance to the surface in mm, negative inside.
        axis: …×D×H×W, a in [0, 1] from head to tail, negative where there is no coordinate.
        bounds: where the regions end.

    Returns:
        uint8 …×D×H×W, ids into :data:`REGION_NAMES`.
    """
    third = (axis * 3).to(torch.int8).clamp_(0, 2).masked_fill_(axis < 0, 1)
    # 0 core, 1 rim, 2 near, 3 mid, 4 far: each border that was passed on the way out adds one.
    shell = (distance >= -bounds.rim).to(torch.uint8)
    for passed in (distance >= 0, distance > bounds.near, distance > bounds.mid):
        shell += passed
    parcel = (2 * third).to(torch.uint8) + shell
    return torch.where(distance < 0, parcel, shell + (len(PARCEL_NAMES) - 2))


def cell_regions(voxels: Tensor, stride: int, partition: Partition = FINEST) -> Tensor:
    """Region of every cell: pancreas where half of its voxels or more are, then the commonest of that side.

    Of equally common regions the one of the lower id wins.

    Args:
        voxels: B×D×H×W, finest region of every voxel; D, H and W are multiples of ``stride``.
        stride: voxels per cell along each axis.
        partition: which of the finest regions count as one.

    Returns:
        int64 B×d×h×w, ids into the names of the partition.
    """
    B, D, H, W = voxels.shape
    cells = voxels.view(B, D // stride, stride, H // stride, stride, W // stride, stride)
    counts = _counts(cells, stride, partition)
    parcels = len(partition.parcels)
    pancreas = 2 * sum(counts[1:parcels], counts[0]) >= stride**3
    return torch.where(pancreas, _commonest(counts[:parcels]), _commonest(counts[parcels:]) + parcels)


def _counts(cells: Tensor, stride: int, partition: Partition) -> list[Tensor]:
    """For each region int64 B×d×h×w, its voxels in each cell, from B×d×k×h×k×w×k.

    As many regions as fit are counted at once, each in bits of its own of one number.
    """
    bits = (stride**3).bit_length()
    together = 63 // bits
    counts = []
    for first in range(0, len(partition.names), together):
        regions = range(first, min(first + together, len(partition.names)))
        ones = [2 ** (bits * (region - first)) if region in regions else 0 for region in partition.region]
        packed = torch.tensor(ones, device=cells.device).index_select(0, cells.flatten().int()).view_as(cells)
        packed = packed.sum(2).sum(3).sum(4)  # one axis at a time is faster than all at once
        counts += [(packed >> (bits * (region - first))) & (2**bits - 1) for region in regions]
    return counts


def _commonest(counts: list[Tensor]) -> Tensor:
    """Position of the largest count, of equal ones the first."""
    # Faster than argmax over a stack of them.
    keys = [count * len(counts) + len(counts) - 1 - i for i, count in enumerate(counts)]
    return len(counts) - 1 - reduce(torch.maximum, keys) % len(counts)
