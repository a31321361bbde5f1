"""Where a patient is painted: HU, and the pancreas that everything else keeps clear of."""

from __future__ import annotations

import numpy as np

from datamodules.anatomy.grid import Array, Grid
from datamodules.anatomy.shapes import Field


class Canvas:
    """The picture of a patient in the making.

    Attributes:
        grid: the grid it is painted on.
        hu: the picture, shape (X, Y, Z).
        cavity: about the signed distance to the abdominal cavity's wall and diaphragm in mm, negative inside.
        pancreas: about the signed distance to the pancreas in mm, where it is near; never more than some mm.
        pancreas_cover: the share of each voxel that is pancreas, from 0 to 1.
        texture: smooth noise of deviation 1 that mottles all soft tissue.
    """

    def __init__(self, grid: Grid, texture: Array) -> None:
        self.grid = grid
        self.hu = np.empty(grid.shape)
        self.cavity = np.empty(grid.shape)
        self.pancreas = np.full(grid.shape, 1e3)
        self.pancreas_cover = np.zeros(grid.shape)
        self.texture = texture

    def cover(self, distance: Array) -> Array:
        """The share of each voxel inside a shape, from the distance of its centre to the surface: 0 to 1."""
        share = distance * (-1.0 / self.grid.pixel)
        share += 0.5
        return np.clip(share, 0.0, 1.0, out=share)

    def paint(
        self,
        field: Field,
        value: float | Array,
        mottle: float = 4.0,
        clear: float | None = None,
        inside: float | None = None,
        over_pancreas: bool = False,
    ) -> Array:
        """Paint a shape over what is there.

        Args:
            field: the shape.
            value: its HU, one or of the window's shape.
            mottle: deviation in HU of the smooth noise on it.
            clear: how far in mm it stays clear of the pancreas; None: it does not care.
            inside: how far in mm it stays inside the abdominal cavity; None: it may leave it.
            over_pancreas: it takes the place of pancreas (vessels do).

        Returns:
            The share of each voxel of the window that was painted.
        """
        distance = field.distance
        if clear is not None:
            distance = np.maximum(distance, clear - self.pancreas[field.window])
        if inside is not None:
            distance = np.maximum(distance, self.cavity[field.window] + inside)
        share = self.cover(distance)
        view = self.hu[field.window]
        view += share * (value + mottle * self.texture[field.window] - view)
        if over_pancreas:
            self.pancreas_cover[field.window] *= 1.0 - share
        return share
