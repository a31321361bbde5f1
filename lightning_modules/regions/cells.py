"""The cells in which appearance is corrupted: a regular grid of cubes (in mm), placed at random over each patch.

B sample, D H W voxels, I J K cells along the three axes (as many as the sample with the most needs), N chosen voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.randomness import numpy_generator

FEWEST_VOXELS = 2


class Voxels(NamedTuple):
    """Voxels chosen from a batch, in the order of its memory; what is done to few of them should not cost as all."""

    position: Tensor
    """int64 N: place in the flattened B×1×D×H×W."""
    sample: Tensor
    """int64 N."""
    place: Tensor
    """int64 3×N: the voxel along D, H, W."""
    cell: Tensor
    """int64 N: place of its cell in the flattened B×I×J×K."""

    def among(self, chosen: Tensor) -> Voxels:
        """Those where bool N is true."""
        kept = chosen.nonzero().squeeze(1)
        return Voxels(self.position[kept], self.sample[kept], self.place[:, kept], self.cell[kept])

    def of(self, field: Tensor) -> Tensor:
        """N: the values of a field B×1×D×H×W at the voxels."""
        return field.flatten()[self.position]

    def of_cells(self, values: Tensor) -> Tensor:
        """N: for each voxel the value of its cell, from B×I×J×K."""
        return values.flatten()[self.cell]


class CellGrid:
    """A grid of cells per sample; at the patch's border a cell may be cut.

    Sums over cells are products with 0/1 matrices, one per axis: no scatter, hence deterministic on every device.

    Args:
        edges: B×3, edge of the cells in voxels.
        offsets: B×3, voxels of the first cell that lie before the patch, each below the edge.
        shape: D, H, W of the patch.
        device: where the patches lie.
    """

    def __init__(
        self,
        edges: Sequence[tuple[int, int, int]],
        offsets: Sequence[tuple[int, int, int]],
        shape: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        self.shape = shape
        self.edges = torch.tensor(edges, device=device)
        self.offsets = torch.tensor(offsets, device=device)
        self.counts = [
            (
                _cells(shape[0], edge[0], offset[0]),
                _cells(shape[1], edge[1], offset[1]),
                _cells(shape[2], edge[2], offset[2]),
            )
            for edge, offset in zip(edges, offsets, strict=True)
        ]
        self.size = [max(count[axis] for count in self.counts) for axis in range(3)]
        positions = [torch.arange(length, device=device) + self.offsets[:, [a]] for a, length in enumerate(shape)]
        self.cell = [position // self.edges[:, [a]] for a, position in enumerate(positions)]
        """Three of B×length: the cell of each voxel along an axis."""
        self.local = [position % self.edges[:, [a]] for a, position in enumerate(positions)]
        """Three of B×length: the place of each voxel within its cell along an axis."""
        member = [
            (cell[:, None] == torch.arange(count, device=device)[:, None]).float()
            for cell, count in zip(self.cell, self.size, strict=True)
        ]
        self._member = member
        i, j, k = (along.sum(2) for along in member)
        self.voxels = i[:, :, None, None] * j[:, None, :, None] * k[:, None, None, :]
        """B×I×J×K: voxels of each cell within the patch; 0 for cells that a sample does not have."""

    def sum(self, field: Tensor) -> Tensor:
        """B×I×J×K: sum of a float32 field B×1×D×H×W over each cell."""
        along_d = torch.einsum("bdhw,bid->bihw", field[:, 0], self._member[0])
        along_h = torch.einsum("bihw,bjh->bijw", along_d, self._member[1])
        return torch.einsum("bijw,bkw->bijk", along_h, self._member[2])

    def mean(self, field: Tensor) -> Tensor:
        """B×I×J×K: mean of a float32 field B×1×D×H×W over each cell; 0 for cells that a sample does not have."""
        return self.sum(field) / self.voxels.clamp(min=1)

    def spread(self, values: Tensor) -> Tensor:
        """B×1×D×H×W: each voxel gets the value of its cell, from B×I×J×K of any type."""
        # Axis by axis, the last one first: so the large copies are of whole planes.
        return torch.stack(
            [
                table.index_select(2, w).index_select(1, h).index_select(0, d)
                for table, d, h, w in zip(values, *self.cell, strict=True)
            ]
        )[:, None]

    def choose(self, position: Tensor) -> Voxels:
        """The voxels at int64 N positions in the flattened B×1×D×H×W."""
        _, H, W = self.shape
        plane, w = position // W, position % W
        row, h = plane // H, plane % H
        sample, d = row // self.shape[0], row % self.shape[0]
        i, j, k = self.cell[0][sample, d], self.cell[1][sample, h], self.cell[2][sample, w]
        number = ((sample * self.size[0] + i) * self.size[1] + j) * self.size[2] + k
        return Voxels(position, sample, torch.stack([d, h, w]), number)


def random_grid(
    sizes: Sequence[float],
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
    key: Tensor,
    seed: int,
    device: torch.device,
) -> CellGrid:
    """A grid whose edge (one of ``sizes``) and place are drawn for each sample.

    Args:
        sizes: edges in mm; in voxels at least two along each axis, and no more than the patch has.
        spacing: mm along D, H, W.
        shape: D, H, W.
        key: int64 B×2, (epoch, index) of each sample.
        seed: of the run.
        device: where the patches lie.
    """
    edges: list[tuple[int, int, int]] = []
    offsets: list[tuple[int, int, int]] = []
    for epoch, index in key.tolist():
        draw = numpy_generator(seed, epoch, index, "corruption grid")
        size = sizes[int(draw.integers(len(sizes)))]
        d, h, w = (
            min(max(FEWEST_VOXELS, round(size / step)), length) for step, length in zip(spacing, shape, strict=True)
        )
        edges.append((d, h, w))
        offsets.append((int(draw.integers(d)), int(draw.integers(h)), int(draw.integers(w))))
    return CellGrid(edges, offsets, shape, device)


def _cells(length: int, edge: int, offset: int) -> int:
    return (length - 1 + offset) // edge + 1
