"""The random numbers of a corruption, each drawn from its own sample's key.

B sample, D H W voxels, I J K cells along the three axes, N voxels of cells that are altered.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from datamodules.randomness import torch_generator
from lightning_modules.regions.cells import CellGrid, Voxels


class Draws:
    """Draws by purpose: the same sample gets the same numbers in any batch, on any rank.

    Args:
        key: int64 B×2, (epoch, index) of each sample.
        seed: of the run.
        grid: the cells.
        device: where the numbers are needed; those per cell and sample are the same on every device.
    """

    def __init__(self, key: Tensor, seed: int, grid: CellGrid, device: torch.device) -> None:
        self._keys: list[tuple[int, int]] = [(epoch, index) for epoch, index in key.tolist()]
        self._seed = seed
        self._grid = grid
        self._device = device

    def per_cell(self, purpose: str, count: int) -> Tensor:
        """``count``×B×I×J×K, uniform in [0, 1); 1 for cells that a sample does not have."""
        table = torch.ones(count, len(self._keys), *self._grid.size)
        for sample, (i, j, k) in enumerate(self._grid.counts):
            # A sample's numbers must not depend on how many cells its neighbours in the batch have.
            table[:, sample, :i, :j, :k] = torch.rand(count, i, j, k, generator=self._generator(sample, purpose))
        return table.to(self._device)

    def per_sample(self, purpose: str, count: int) -> Tensor:
        """B×``count``, uniform in [0, 1)."""
        return torch.stack(
            [torch.rand(count, generator=self._generator(s, purpose)) for s in range(len(self._keys))]
        ).to(self._device)

    def normal_per_sample(self, purpose: str, count: int) -> Tensor:
        """B×``count``, standard normal."""
        return torch.stack(
            [torch.randn(count, generator=self._generator(s, purpose)) for s in range(len(self._keys))]
        ).to(self._device)

    def per_voxel(self, purpose: str, voxels: Voxels) -> Tensor:
        """N, uniform in [0, 1)."""
        return torch.cat([torch.rand(n, generator=g, device=self._device) for n, g in self._shares(purpose, voxels)])

    def normal_per_voxel(self, purpose: str, voxels: Voxels) -> Tensor:
        """N, standard normal."""
        return torch.cat([torch.randn(n, generator=g, device=self._device) for n, g in self._shares(purpose, voxels)])

    def _shares(self, purpose: str, voxels: Voxels) -> Iterator[tuple[int, torch.Generator]]:
        """For each sample, in the order of the voxels, how many of them are its own, and what draws for them."""
        for sample, count in enumerate(torch.bincount(voxels.sample, minlength=len(self._keys)).tolist()):
            yield count, self._generator(sample, purpose, self._device)

    def _generator(self, sample: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        epoch, index = self._keys[sample]
        return torch_generator(self._seed, epoch, index, f"corruption {purpose}", device=device)
