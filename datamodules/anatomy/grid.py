"""The grid that a patient is painted on, and windows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Points = Sequence[Sequence[float]] | Sequence[Array] | Sequence[Sequence[float] | Array] | Array
"""Control points in mm, of shape (N, 3)."""
Window = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Voxel centres along the three axes of the patient, in mm, each ascending and evenly spaced.

    Attributes:
        x: positions from left to right, shape (X,).
        y: positions from back to front, shape (Y,).
        z: positions from feet to head, shape (Z,).
    """

    x: Array
    y: Array
    z: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        return len(self.x), len(self.y), len(self.z)

    @property
    def pixel(self) -> float:
        """Distance of two voxels in the axial plane, in mm."""
        return float(self.x[1] - self.x[0])

    def window(self, low: Array, high: Array) -> Window:
        """The voxels whose centres lie between two corners (mm, each of shape (3,)); may be empty."""
        found = (
            slice(int(np.searchsorted(axis, low[i])), int(np.searchsorted(axis, high[i], side="right")))
            for i, axis in enumerate((self.x, self.y, self.z))
        )
        x, y, z = found
        return x, y, z

    def axes(self, window: Window) -> tuple[Array, Array, Array]:
        """The positions of a window's voxels, shaped (X, 1, 1), (1, Y, 1) and (1, 1, Z) for broadcasting."""
        return (
            self.x[window[0]][:, None, None],
            self.y[window[1]][None, :, None],
            self.z[window[2]][None, None, :],
        )
