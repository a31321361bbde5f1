"""Implicit shapes: (nearly) signed distances in mm, negative inside, evaluated in a window of the grid only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from datamodules.anatomy.grid import Array, Grid, Points, Window

MARGIN = 5.0
"""How far outside of a shape, in mm, its distance is still told; beyond it is at least that."""


@dataclass(frozen=True)
class Field:
    """A shape in a window of the grid.

    Attributes:
        window: the voxels it is given for.
        distance: about the signed distance to its surface in mm, negative inside, of the window's shape.
    """

    window: Window
    distance: Array


def curve(points: Points, step: float) -> tuple[Array, Array]:
    """A smooth curve through control points, sampled evenly.

    Args:
        points: control points in mm, shape (K, 3), K ≥ 2.
        step: distance of two samples along the curve in mm.

    Returns:
        The samples, shape (N, 3), and the share of the curve's length up to each, shape (N,), from 0 to 1.
    """
    knots = np.asarray(points, dtype=np.float64)
    chords = np.sqrt(np.sum(np.diff(knots, axis=0) ** 2, axis=1))
    parameter = np.concatenate([[0.0], np.cumsum(np.sqrt(chords))])  # centripetal: no loops at uneven knots
    spline = CubicSpline(parameter, knots, bc_type="natural")
    fine = spline(np.linspace(0.0, parameter[-1], 16 * len(knots)))
    lengths = np.concatenate([[0.0], np.cumsum(np.sqrt(np.sum(np.diff(fine, axis=0) ** 2, axis=1)))])
    share = np.linspace(0.0, 1.0, max(2, round(lengths[-1] / step) + 1))
    samples = np.stack([np.interp(share * lengths[-1], lengths, fine[:, i]) for i in range(3)], axis=1)
    return samples, share


def sweep(grid: Grid, centres: Array, radii: Array | float, height: float = 1.0, margin: float = MARGIN) -> Field:
    """The union of balls along a curve: a tube of varying radius.

    Args:
        grid: where it is evaluated.
        centres: centres of the balls, shape (N, 3), close to each other.
        radii: their radii in the axial plane in mm, one for all or of shape (N,).
        height: how many times higher than wide the balls are along z.
        margin: how far outside the distance is told.
    """
    sizes = np.broadcast_to(np.asarray(radii, dtype=np.float64), (len(centres),))
    reach = (sizes[:, None] + margin) * np.array([1.0, 1.0, height])
    window = grid.window((centres - reach).min(axis=0), (centres + reach).max(axis=0))
    axes = grid.x[window[0]], grid.y[window[1]], grid.z[window[2]]
    # Along each axis the distance of each ball's centre to each voxel, squared, and which voxels are near, all at once.
    x, y, z = (((axis - centres[:, i, None]) / (height if i == 2 else 1.0)) ** 2 for i, axis in enumerate(axes))
    first = [np.searchsorted(axis, centres[:, i] - reach[:, i]).tolist() for i, axis in enumerate(axes)]
    last = [np.searchsorted(axis, centres[:, i] + reach[:, i], side="right").tolist() for i, axis in enumerate(axes)]
    distance = np.full((len(axes[0]), len(axes[1]), len(axes[2])), margin)
    for ball, radius in enumerate(sizes.tolist()):
        here = tuple(slice(first[i][ball], last[i][ball]) for i in range(3))
        plane = x[ball, here[0], None] + y[ball, None, here[1]]
        squared = plane[:, :, None] + z[ball, here[2]]
        np.sqrt(squared, out=squared)
        squared -= radius
        view = distance[here]
        np.minimum(view, squared, out=view)
    return Field(window, distance)


def ellipsoid(
    grid: Grid, centre: Array, radii: Sequence[float] | Array, turn: Array | None = None, margin: float = MARGIN
) -> Field:
    """An ellipsoid.

    Args:
        grid: where it is evaluated.
        centre: shape (3,), in mm.
        radii: its three half axes in mm.
        turn: rotation whose columns are the directions of the half axes, shape (3, 3); upright if None.
        margin: how far outside the distance is told.
    """
    axes = np.eye(3) if turn is None else turn
    size = np.asarray(radii, dtype=np.float64)
    reach = np.sqrt(np.sum((axes * (size + margin)) ** 2, axis=1))
    window = grid.window(centre - reach, centre + reach)
    x, y, z = grid.axes(window)
    near = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape))
    slope = np.zeros_like(near)
    for i in range(3):
        along = (x - centre[0]) * axes[0, i] + (y - centre[1]) * axes[1, i] + (z - centre[2]) * axes[2, i]
        along = (along / size[i]) ** 2
        near += along
        slope += along / size[i] ** 2
    # The first-order distance k0 (k0 - 1) / k1 of I. Quilez, "Ellipsoid - distance" (2008).
    np.sqrt(near, out=near)
    np.sqrt(slope, out=slope)
    return Field(window, near * (near - 1.0) / np.maximum(slope, 1e-9))


def rotation(about_x: float = 0.0, about_y: float = 0.0, about_z: float = 0.0) -> Array:
    """The rotation by three angles in degrees, about x first, then y, then z; shape (3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = (tuple(f(np.deg2rad([about_x, about_y, about_z]))) for f in (np.cos, np.sin))
    turn_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turned: Array = turn_z @ turn_y @ turn_x
    return turned


class SmoothNoise:
    """A smooth random function of position, about normal with mean 0 and deviation 1.

    Its values are drawn on a lattice in millimetres, hence it is the same on every grid.

    Args:
        generator: where the values are drawn.
        low: one corner of the box it is defined in, mm.
        high: the opposite corner.
        scale: distance of the lattice's points in mm: the size of its structures.
    """

    def __init__(
        self,
        generator: np.random.Generator,
        low: Sequence[float] | Array,
        high: Sequence[float] | Array,
        scale: float,
    ) -> None:
        self._low = np.asarray(low, dtype=np.float64)
        self._scale = scale
        counts = np.ceil((np.asarray(high) - self._low) / scale).astype(int) + 4
        # A cubic B-spline of a white lattice keeps 0.46 to 0.5 of its variance on each axis.
        self._values = generator.standard_normal(tuple(counts)) / 0.69**3

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        """Its values at the product of three axes, shapes (X,), (Y,), (Z,): an array (X, Y, Z)."""
        weights = [self._weights(axis, i) for i, axis in enumerate((x, y, z))]
        values = np.tensordot(self._values, weights[2], axes=(2, 1))
        values = np.tensordot(weights[1], values, axes=(1, 1))  # (Y, K, Z)
        values = np.tensordot(weights[0], values, axes=(1, 1))
        return np.ascontiguousarray(values, dtype=np.float64)

    def _weights(self, axis: Array, dimension: int) -> Array:
        count = self._values.shape[dimension]
        position = np.clip((axis - self._low[dimension]) / self._scale + 1.0, 1.0, count - 2.000001)
        first = position.astype(int) - 1
        t = position - 1.0 - first
        weights = np.zeros((len(axis), count))
        rows = np.arange(len(axis))
        basis = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        for k, value in enumerate(basis):
            weights[rows, first + k] += value / 6.0
        return weights
