"""Skin, fat, muscle wall, ribs, the cavity with its fat, and the lungs' bases above the diaphragm."""

from __future__ import annotations

import numpy as np

from datamodules.anatomy import tissue as t
from datamodules.anatomy.canvas import Canvas
from datamodules.anatomy.grid import Array
from datamodules.anatomy.patient import Patient

SLAB = 6
"""Rows of voxels that are painted at once: their arrays stay in the processor's cache."""


def paint_torso(canvas: Canvas, patient: Patient, tissue: dict[str, float]) -> None:
    """Paint everything but the organs, and set the canvas' ``hu`` and ``cavity``.

    The cavity is a superellipse around the patient's middle whose radius swells with the belly and narrows to the
    chest; muscle, subcutaneous fat and skin follow its contour outwards. Subcutaneous fat is 5 mm to 45 mm deep.
    """
    grid = canvas.grid
    generator = patient.stream("torso")
    across, up = patient.unturned(grid.x[:, None], grid.y[None, :])
    up = up - patient.middle
    radius = np.sqrt(across**2 + up**2)
    sine, cosine = up / np.maximum(radius, 1e-6), across / np.maximum(radius, 1e-6)
    power = generator.uniform(2.2, 2.7)
    form = (np.abs(cosine / patient.half_width) ** power + np.abs(sine / patient.half_depth) ** power) ** (-1 / power)
    height = grid.z / 100.0
    narrow = 1.0 - generator.uniform(0.01, 0.05) * height - generator.uniform(0.02, 0.05) * height**2
    front, back, side = np.maximum(sine, 0) ** 2, np.maximum(-sine, 0) ** 3, cosine**2
    erector = np.exp(-(((np.abs(across) - 32.0 * patient.size) / (30.0 * patient.size)) ** 4))
    sag = patient.adiposity * generator.uniform(6.0, 18.0) * np.exp(-(((height + 0.6) / 0.6) ** 2))
    muscle = 8.0 + generator.uniform(3.0, 7.0) * side * (1 - front) * (1 - back)
    behind = np.exp(-(((1.0 + sine) / 0.5) ** 2)) * generator.uniform(26, 32) * patient.size
    muscle = muscle + behind * erector
    fat = (3.5 + 38.0 * patient.adiposity**1.3) * (
        0.45 + generator.uniform(0.25, 0.55) * front + generator.uniform(0.3, 0.7) * side + 0.25 * back
    )
    fat = fat + behind * (1.0 - erector)  # the furrow between the back's muscles is filled with fat
    domes = _diaphragm(patient, across, up + patient.middle, generator)
    ribs = _rib_heights(patient, sine, cosine, generator)
    linea = 1.0 - np.exp(-((across / 4.0) ** 2)) * (sine > 0)

    for start in range(0, len(grid.x), SLAB):
        rows = slice(start, start + SLAB)
        depth = radius[rows, :, None] - (
            form[rows, :, None] * narrow + front[rows, :, None] * sag
        )  # negative inside the cavity
        above = grid.z - domes[rows, :, None]
        canvas.cavity[rows] = np.maximum(depth, above)
        hu = canvas.hu[rows]
        mottle = canvas.texture[rows]
        wall, skin = muscle[rows, :, None], fat[rows, :, None]
        inner = canvas.cover(-depth)
        lean = tissue["muscle"] * linea[rows, :, None] + t.FAT * (1 - linea[rows, :, None])
        layer = np.abs(depth / wall - 0.5)
        lean = lean - 110.0 * np.clip(1 - np.abs(layer - 0.16) * wall * 0.9, 0, 1) * side[rows, :, None]
        hu[:] = t.FAT + 7.0 * mottle
        hu += inner * (lean + 6.0 * mottle - hu)
        hu += canvas.cover(wall - depth) * (t.SUBCUTANEOUS + 5.0 * mottle - hu)
        hu += canvas.cover(wall + skin - depth) * (t.SKIN - hu)
        hu += canvas.cover(wall + skin + 2.2 - depth) * (t.AIR - hu)
        lungs = canvas.cover(-above) * (1 - inner)
        if lungs.any():
            hu += lungs * (t.LUNG + 45.0 * mottle - hu)
            _paint_ribs(canvas, hu, depth, wall, ribs[rows], patient)


def _diaphragm(patient: Patient, x: Array, y: Array, generator: np.random.Generator) -> Array:
    """The height in mm of the diaphragm's two domes above each point of the axial plane, shape (X, Y)."""
    tops = (generator.uniform(88, 112), generator.uniform(76, 100))
    domes = []
    for top, middle in zip(tops, (0.52, -0.52), strict=True):
        off = ((x - middle * patient.half_width) / (0.62 * patient.half_width)) ** 2
        off = off + ((y - patient.middle - 8.0) / (1.02 * patient.half_depth)) ** 2
        domes.append(top * patient.size + patient.shift * 0.5 - 62.0 * off)
    between = 66.0 - 90.0 * (x / patient.half_width) ** 2
    heights: Array = np.maximum(np.maximum(domes[0], domes[1]), between + patient.shift * 0.5)
    return heights


def _rib_heights(patient: Patient, sine: Array, cosine: Array, generator: np.random.Generator) -> Array:
    """How far the ribs have sunk below where they leave the spine, in mm, by direction; shape (X, Y)."""
    forward = (sine + 1.0) / 2.0
    sunk = (150.0 * forward - 40.0 * forward**2) * patient.size + generator.uniform(0, 26)
    heights: Array = np.where((np.abs(cosine) < 0.42) & (sine > 0), np.inf, sunk)  # no ribs before the belly
    return heights


def _paint_ribs(canvas: Canvas, hu: Array, depth: Array, wall: Array, sunk: Array, patient: Patient) -> None:
    """Paint ribs 26 mm apart into the muscle wall of a slab, above the costal margin."""
    height = canvas.grid.z + sunk[:, :, None]
    pitch = 26.0 * patient.size
    height = np.where(np.isfinite(height), height, -1e3)
    turn = np.remainder(height, pitch) - pitch / 2
    distance = np.sqrt(((depth - 0.45 * wall) * 1.6) ** 2 + turn**2) - 5.2
    margin = height - 92.0 * patient.size
    share = canvas.cover(np.maximum(distance, -margin))
    share *= wall < 24.0
    hu += share * (t.RIB - 130.0 * np.clip(-distance / 4.0, 0, 1) - hu)
