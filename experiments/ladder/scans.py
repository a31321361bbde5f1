"""What a ladder is climbed with: scans of the same patients, a factor altered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.ladder.plan import Factor, Rung

if TYPE_CHECKING:
    import torchio as tio


@dataclass(frozen=True)
class Scan:
    """A case on a rung.

    Attributes:
        image: float32 HU, 1×W×H×D with its affine; what the model is given.
        label: uint8 W×H×D, 0 or 1, on the case's native grid, which need not be the image's.
        affine: 4×4 of the label, voxel to world in RAS mm.
    """

    image: tio.ScalarImage
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]


class Scans(Protocol):
    """The scans of a ladder."""

    @property
    def name(self) -> str:
        """Of the folder that its cells lie in."""
        ...

    @property
    def title(self) -> str:
        """What is climbed with, as ``eight phantoms of no site``."""
        ...

    @property
    def factors(self) -> Sequence[Factor]:
        """What can be altered."""
        ...

    @property
    def cases(self) -> Sequence[str]:
        """The cases' ids."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """What is to be known of these images, one sentence each."""
        ...

    def digest(self, case: str, rung: Rung) -> str:
        """A hash that changes with the scan's voxels, known without making it."""
        ...

    def scan(self, case: str, rung: Rung) -> Scan:
        """Make or read a scan."""
        ...
