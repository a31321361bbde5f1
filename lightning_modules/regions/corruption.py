"""The corruption of appearance: x̃ = M̃·T(x) + (1−M̃)·x, cell by cell.

B sample, D H W voxels, I J K cells along the three axes, O operators, T taken cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.errors import UsageError
from lightning_modules.config import CorruptionConfig
from lightning_modules.precision import no_autocast
from lightning_modules.regions.cells import CellGrid, random_grid
from lightning_modules.regions.draws import Draws
from lightning_modules.regions.operators import Cells
from lightning_modules.regions.operators.registered import OPERATORS

NEAR = 5.0
"""The near ring is at least this wide, mm."""
SECOND_OPERATOR = 0.5
"""Probability with which a cell gets two operators."""


class Corrupted(NamedTuple):
    """What became of a batch of patches."""

    image: Tensor
    """B×1×D×H×W in [0, 1]: x̃."""
    mask: Tensor
    """bool B×1×D×H×W: M̃, the voxels of the corrupted cells."""


class Corruption:
    """Corrupts cells in M, and others far from it as decoys.

    Args:
        config: its settings.
        spacing: of the voxels along D, H, W, mm.
        seed: of the run.

    Raises:
        UsageError: a setting with which nothing can be corrupted, or an operator that does not exist.
    """

    def __init__(self, config: CorruptionConfig, spacing: tuple[float, float, float], seed: int) -> None:
        _check(config)
        self.config = config
        self.spacing = spacing
        self.seed = seed
        self.weights = {name: config.operators[name] for name in OPERATORS if config.operators.get(name, 0) > 0}

    @torch.no_grad()
    def __call__(
        self, image: Tensor, region: Tensor, distance: Tensor, key: Tensor, strength: float = 1.0
    ) -> Corrupted:
        """Corrupt a batch; nothing outside the chosen cells is touched.

        Args:
            image: float B×1×D×H×W in [0, 1].
            region: bool B×1×D×H×W, M.
            distance: B×1×D×H×W, signed distance to the pancreas' surface in mm.
            key: int64 B×2, (epoch, index) of each sample.
            strength: factor on the probabilities of corrupting a cell, in (0, 1].
        """
        D, H, W = image.shape[2:]
        with no_autocast(image):
            grid = random_grid(self.config.cells, self.spacing, (D, H, W), key, self.seed, image.device)
            draws = Draws(key, self.seed, grid, image.device)
            taken = self._take(grid, draws, region, strength)
            near = _near_ring(grid, distance.float(), self.spacing)
            drawn = grid.spread(self._operators(draws, taken))
            mask = drawn > 0
            voxels = grid.choose(mask.flatten().nonzero().squeeze(1))
            bits = voxels.of(drawn)
            x = image.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
            for i, name in enumerate(self.weights):
                chosen = voxels.among((bits & 2**i) > 0)
                if len(chosen.position) > 0:
                    altered = OPERATORS[name](x, Cells(grid, draws, chosen, near, self.spacing, self.config.alike))
                    x.view(-1)[chosen.position] = altered.clamp(0, 1)
            return Corrupted(x.to(image.dtype), mask)

    def _take(self, grid: CellGrid, draws: Draws, region: Tensor, strength: float) -> Tensor:
        """bool B×I×J×K: eligible cells, and decoys among the cells that hold nothing of M."""
        inside = grid.sum(region.float())
        eligible = (inside >= self.config.eligible * grid.voxels) & (inside > 0)
        outside = (inside == 0) & (grid.voxels > 0)
        chance = draws.per_cell("take", 1)[0] / strength
        return (eligible & (chance < self.config.probability)) | (outside & (chance < self.config.decoys))

    def _operators(self, draws: Draws, taken: Tensor) -> Tensor:
        """int16 B×I×J×K: bit i stands for operator i; one or two bits in the taken cells, none elsewhere."""
        weights = torch.tensor(list(self.weights.values()), device=taken.device)
        others = weights * (1 - torch.eye(len(weights), device=taken.device))
        chance = draws.per_cell("operators", 3)[:, taken]
        first = _choose(chance[0], weights)
        second = _choose(chance[1], others[first])
        two = (chance[2] < SECOND_OPERATOR) & (len(weights) > 1)
        drawn = torch.zeros(taken.shape, dtype=torch.int16, device=taken.device)
        drawn[taken] = (2**first | torch.where(two, 2**second, 0)).to(torch.int16)
        return drawn


def _choose(chance: Tensor, weights: Tensor) -> Tensor:
    """int64 T: the weight that ``chance`` (T, uniform in [0, 1)) falls on; ``weights`` is T×O, or O alike for all."""
    edges = weights.cumsum(-1)
    passed = chance[..., None] * edges[..., -1:] >= edges
    return passed.sum(-1).clamp(max=weights.shape[-1] - 1)


def _near_ring(grid: CellGrid, distance: Tensor, spacing: tuple[float, float, float]) -> Tensor:
    """bool B×I×J×K: cells whose mean distance to the surface is between 0 and 5 mm (or one edge, if longer)."""
    mean = grid.mean(distance)
    edge = (grid.edges * torch.tensor(spacing, device=distance.device)).amax(1)
    return (mean >= 0) & (mean <= edge.clamp(min=NEAR)[:, None, None, None]) & (grid.voxels > 0)


def _check(config: CorruptionConfig) -> None:
    where = "model.restoration.corruption"
    unknown = sorted(set(config.operators) - set(OPERATORS))
    if unknown:
        raise UsageError(
            f"{where}.operators: there is no operator {', '.join(unknown)}; there are {', '.join(sorted(OPERATORS))}"
        )
    if min(config.operators.values(), default=0) < 0 or max(config.operators.values(), default=0) <= 0:
        raise UsageError(f"{where}.operators: give no weight below 0 and at least one above it")
    if not config.cells or min(config.cells) <= 0:
        raise UsageError(f"{where}.cells: {list(config.cells)} must name at least one edge in mm, each above 0")
