"""Which case and which patch stand at a position of the training stream.

The stream has no end and no state: position p = step × B + slot, with B the global batch. Case, patch centre and
whatever else is drawn for a sample follow from the seed and p alone, so that any number of workers, ranks and
accumulated batches, and a resumed run, see the same global batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from datamodules.errors import UsageError
from datamodules.randomness import numpy_generator

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Place:
    """What stands at a position of the stream.

    Attributes:
        epoch: with the index (and the run's seed) the key of all that is drawn for the sample.
        index: position within the epoch.
        case: index into the training cases.
        foreground: whether the patch is centred on the pancreas.
    """

    epoch: int
    index: int
    case: int
    foreground: bool


@dataclass(frozen=True)
class Stream:
    """The positions of a run; every epoch of ``cases`` positions is another permutation of the cases.

    Attributes:
        seed: of the run.
        cases: number of training cases.
        batch_size: global batch B.
        foreground: share of patches centred on the pancreas, in [2/3, 1].

    Raises:
        UsageError: no case, no batch, or a share out of range.
    """

    seed: int
    cases: int
    batch_size: int
    foreground: float

    def __post_init__(self) -> None:
        if self.cases < 1:
            raise UsageError("the source's split leaves no case to train on; see data.split")
        if self.batch_size < 1:
            raise UsageError(f"data.batch_size must be at least 1, not {self.batch_size}")
        if not 2 / 3 - 1e-6 <= self.foreground <= 1:
            raise UsageError(f"data.sampling.foreground must lie between 2/3 and 1, not {self.foreground}")

    def place(self, position: int) -> Place:
        """What stands at ``position``."""
        epoch, index = divmod(position, self.cases)
        case = _permutation(self.seed, epoch, self.cases)[index]
        return Place(epoch, index, int(case), self._on_pancreas(position))

    def _on_pancreas(self, position: int) -> bool:
        # The share is reached from the first position on and spread evenly: with 2/3, two of three and one of any
        # two neighbours. Whole numbers, so that no rounding moves the pattern late in a long run.
        if self.batch_size == 1:
            return True
        share = Fraction(self.foreground).limit_denominator(1000)
        return math.ceil((position + 1) * share) > math.ceil(position * share)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, cases: int) -> NDArray[np.int64]:
    return numpy_generator(seed, epoch, "permutation").permutation(cases)


def patch_centre(place: Place, seed: int, shape: tuple[int, int, int], foreground: NDArray[np.int32] | None) -> Voxel:
    """The voxel (d, h, w) in the middle of the patch of a sample.

    A voxel of the pancreas comes from a third (head, body, tail) that is drawn first, so that the small tail is
    seen as often as the head; other patches are uniform over the volume.

    Args:
        place: the sample.
        seed: of the run.
        shape: D, H, W of the stored volume.
        foreground: N×4 voxels of the pancreas with their third; None or empty: uniform over the volume.
    """
    generator = numpy_generator(seed, place.epoch, place.index, "centre")
    if place.foreground and foreground is not None and len(foreground):
        third = generator.choice(np.unique(foreground[:, 3]))
        d, h, w, _ = generator.choice(foreground[foreground[:, 3] == third])
    else:
        d, h, w = (generator.integers(size) for size in shape)
    return int(d), int(h), int(w)


@dataclass(frozen=True)
class Share:
    """One rank's part of the stream. Of every global batch, micro-batch m of A and rank r of R take the
    (m × R + r)-th run of B / (A × R) neighbouring positions.

    Attributes:
        batch_size: global batch B.
        accumulate: batches A whose gradients make one step.
        rank: r.
        ranks: R.

    Raises:
        UsageError: R × A does not divide B.
    """

    batch_size: int
    accumulate: int = 1
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % (self.accumulate * self.ranks):
            raise UsageError(
                f"data.batch_size is the global batch: {self.batch_size} is not divisible by {self.ranks} ranks × "
                f"{self.accumulate} accumulated batches (trainer.devices × trainer.nodes, trainer.accumulate)"
            )

    @property
    def local(self) -> int:
        """Samples in one batch of this rank."""
        return self.batch_size // (self.accumulate * self.ranks)

    def positions(self, batch: int) -> range:
        """The positions of this rank's batch number ``batch``, counted from the run's first (A of them a step)."""
        start = (batch * self.ranks + self.rank) * self.local
        return range(start, start + self.local)


class PositionSampler(DistributedSampler[int]):
    """This rank's positions, from the first batch that is not yet trained on to the last of the run.

    A ``DistributedSampler`` by type, because Lightning leaves those as they are and replaces any other one.

    Args:
        share: this rank's part.
        batches: batches of the whole run; the length tells of these all, since Lightning counts from the start.
        finished: batches already trained on.
    """

    def __init__(self, share: Share, batches: int, finished: int = 0) -> None:
        super().__init__(range(batches), num_replicas=share.ranks, rank=share.rank, shuffle=False)  # type: ignore[arg-type]  # of a data set the base only asks the length
        self.share = share
        self.batches = batches
        self.finished = finished

    def __iter__(self) -> Iterator[int]:
        for batch in range(self.finished, self.batches):
            yield from self.share.positions(batch)

    def __len__(self) -> int:
        return self.batches * self.share.local


class StridedSampler(DistributedSampler[int]):
    """Every ``ranks``-th of ``items`` volumes: each exactly once over all ranks, where Lightning's own would pad.

    The length it tells is that of the longest share, on every rank: Lightning skips a rank of length 0 with all
    its hooks, and the other ranks would wait for it in the first collective.

    Args:
        items: number of volumes.
        rank: this rank.
        ranks: all ranks.
        idle: whether a rank beyond the volumes may have none. If not it takes one that another rank has too: a loop
            of Lightning's that ends with what its steps have logged needs a step on every rank.
    """

    def __init__(self, items: int, rank: int = 0, ranks: int = 1, idle: bool = True) -> None:
        super().__init__(range(items), num_replicas=ranks, rank=rank, shuffle=False)  # type: ignore[arg-type]  # of a data set the base only asks the length
        self.items = items
        self.first = rank if idle or not items else rank % items

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.items, self.num_replicas))

    def __len__(self) -> int:
        return -(-self.items // self.num_replicas)
