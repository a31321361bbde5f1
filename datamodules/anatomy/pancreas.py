"""The pancreas: a lobulated gland along a curved axis from the duodenum's C to the hilum of the spleen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from datamodules.anatomy import tissue as t
from datamodules.anatomy.canvas import Canvas
from datamodules.anatomy.grid import Array, Window
from datamodules.anatomy.patient import Patient
from datamodules.anatomy.shapes import Field, SmoothNoise, curve, rotation, sweep

LIES: dict[str, tuple[float, tuple[float, ...]]] = {
    "oblique": (0.14, (-24, -14, -2, 10, 22, 34, 42)),
    "sigmoid": (0.30, (-24, -12, 4, 14, 11, 18, 32)),
    "horizontal": (0.25, (-10, -4, 2, 5, 5, 5, 8)),
    "horseshoe": (0.12, (-26, -8, 8, 14, 10, -6, -26)),
    "l-shaped": (0.13, (-36, -18, 2, 9, 10, 10, 11)),
    "inverted-v": (0.06, (-28, -10, 10, 26, 16, 0, -16)),
}
"""Frequency and heights in mm, head to tail, of the gland's lies: Kreel's six types as counted by Covantev & Belic,
Folia Medica 64 (2022), doi 10.3897/folmed.64.e60567."""

ACROSS = (36.0, 25.0, 9.0, -14.0, -40.0, -64.0, -84.0)
FORWARD = (43.0, 50.0, 65.0, 68.0, 56.0, 37.0, 20.0)
RADII = (12.0, 11.6, 6.8, 8.4, 9.2, 9.4, 7.0)
"""Half thickness in mm along the axis: head up to 3 cm, body up to 2.5 cm, tail up to 2 cm in normal glands
(Herzog, "Pancreas", radiologykey.com/22-pancreas). Volume 72 ± 26 ml: Saisho et al., Clin Anat 20:933 (2007)."""


@dataclass(frozen=True)
class Pancreas:
    """Where a patient's pancreas lies; all in mm, patient coordinates.

    Attributes:
        axis: samples along the axis, head to tail, shape (N, 3).
        radii: half thickness in the axial plane at each sample, shape (N,).
        height: how many times higher than thick it is.
        uncinate: samples of the uncinate process' axis, shape (M, 3).
        lie: name of its lie.
    """

    axis: Array
    radii: Array
    height: float
    uncinate: Array
    lie: str

    def at(self, share: float) -> tuple[Array, float]:
        """The axis' point and half thickness at a share of its length from the head's end."""
        index = round(share * (len(self.axis) - 1))
        return self.axis[index], float(self.radii[index])


def draw_pancreas(patient: Patient) -> Pancreas:
    """Draw axis and thickness of a patient's pancreas."""
    generator = patient.stream("pancreas")
    names = list(LIES)
    chances = np.array([LIES[name][0] for name in names])
    lie = names[int(generator.choice(len(names), p=chances / chances.sum()))]
    points = np.stack([ACROSS, FORWARD, LIES[lie][1]], axis=1).astype(np.float64)
    points += generator.standard_normal(points.shape) * (3.0, 3.0, 3.5)
    points[:, 1] += generator.uniform(-6, 8) * np.linspace(0, 1, len(points)) ** 2
    points[3:, 0] = points[2, 0] + (points[3:, 0] - points[2, 0]) * generator.uniform(0.78, 1.14)
    neck = points[2].copy()
    tilt = rotation(generator.normal(0, 6), generator.normal(0, 8), generator.normal(0, 6))
    points = (points - neck) @ tilt.T * generator.uniform(0.9, 1.1) + neck
    points += np.clip(generator.standard_normal(3), -2, 2) * (6.0, 3.0, 9.0)
    samples, share = curve(patient.place(points, follow=0.5), 2.0)

    stout = float(np.clip(generator.normal(1.0, 0.1), 0.82, 1.2)) * (1.0 - 0.16 * patient.atrophy)
    knots = np.array(RADII) * (1.0 + 0.1 * generator.standard_normal(len(RADII)))
    radii = stout * np.interp(share, np.linspace(0.0, 1.0, len(RADII)), knots)
    end = np.clip((1.0 - share) * 9.0, 0.0, 1.0)
    radii = np.maximum(radii * (0.55 + 0.45 * end), 4.0)

    head, neck = samples[round(0.04 * len(samples))], samples[round(0.3 * len(samples))]
    hook = [head, [head[0] - 10, head[1] - 6, head[2] - 9], [neck[0] + 2, neck[1] - 17, head[2] - 14]]
    reach = generator.uniform(0.35, 1.0)
    uncinate, _ = curve(hook, 2.0)
    uncinate = uncinate[: max(2, round(reach * len(uncinate)))]
    return Pancreas(samples, radii, float(generator.uniform(1.45, 1.85)), uncinate, lie)


@dataclass(frozen=True)
class Gland:
    """The gland on the grid.

    Attributes:
        window: the voxels it is given for.
        outline: about the signed distance to its outer contour in mm.
        clefts: how deep in mm the fat between its lobules reaches at each voxel, 0 or more.
    """

    window: Window
    outline: Array
    clefts: Array


def shape_pancreas(canvas: Canvas, patient: Patient, pancreas: Pancreas, bulge: Field | None) -> Gland:
    """Put the gland on the grid, keep the canvas' other organs clear of it, and return it.

    Args:
        canvas: its ``pancreas`` is set.
        patient: the patient.
        pancreas: the gland's axis.
        bulge: a lesion that belongs to it, or None.
    """
    grid = canvas.grid
    body = sweep(grid, pancreas.axis, pancreas.radii, pancreas.height, margin=9.0)
    _merge(canvas.pancreas, body)
    hook_radii = np.linspace(8.5, 5.0, len(pancreas.uncinate)) * pancreas.radii[0] / 11.5
    _merge(canvas.pancreas, sweep(grid, pancreas.uncinate, hook_radii, 1.2, margin=9.0))
    low, high = pancreas.axis.min(axis=0) - 45.0, pancreas.axis.max(axis=0) + 45.0
    window = grid.window(low, high)
    axes = grid.x[window[0]], grid.y[window[1]], grid.z[window[2]]
    generator = patient.stream("lobules")
    swell = SmoothNoise(generator, low, high, 13.0)(*axes)
    folds = SmoothNoise(generator, low, high, 7.5)(*axes)
    outline = canvas.pancreas[window]
    outline += 1.1 * swell
    clefts = np.clip(1.0 - np.abs(folds) * 4.0, 0.0, 1.0)
    outline += generator.uniform(0.6, 1.6) * clefts * (outline > -6.0)
    if bulge is not None:
        _merge(canvas.pancreas, bulge)
    return Gland(window, canvas.pancreas[window], clefts)


def paint_pancreas(canvas: Canvas, patient: Patient, gland: Gland, tissue: dict[str, float]) -> None:
    """Paint the gland: parenchyma with fine lobulation, and fat in between that grows with fatty atrophy."""
    generator = patient.stream("parenchyma")
    grid = canvas.grid
    low = np.array([-160.0, -60.0, -160.0])
    axes = (grid.x[gland.window[0]], grid.y[gland.window[1]], grid.z[gland.window[2]])
    grain = SmoothNoise(generator, low, -low + 60.0, 5.0)(*axes)
    share = canvas.cover(gland.outline)
    share *= _main_component(share)
    canvas.pancreas_cover[gland.window] = share
    fatty = patient.atrophy
    fat = np.clip(0.01 + 0.36 * fatty * (0.5 + 0.35 * grain) + (0.1 + 0.5 * fatty) * gland.clefts, 0.0, 0.85)
    value = tissue["pancreas"] + 5.0 * grain
    value += fat * (t.FAT - value)
    view = canvas.hu[gland.window]
    view += share * (value - view)


def _merge(distance: Array, field: Field) -> None:
    view = distance[field.window]
    np.minimum(view, field.distance, out=view)


def _main_component(share: Array) -> Array:
    """1 where a voxel belongs to the largest part of a shape or lies at its edge, else 0."""
    parts, count = ndimage.label(share >= 0.5)
    if count <= 1:
        return np.ones(share.shape)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    main: Array = ndimage.binary_dilation(parts == sizes.argmax(), iterations=1).astype(np.float64)
    return main
