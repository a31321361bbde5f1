"""The lumbar spine with discs and processes, psoas muscles and the crura of the diaphragm."""

from __future__ import annotations

import numpy as np

from datamodules.anatomy import tissue as t
from datamodules.anatomy.canvas import Canvas
from datamodules.anatomy.grid import Array
from datamodules.anatomy.patient import Patient
from datamodules.anatomy.shapes import Field, curve, sweep


def paint_skeleton(canvas: Canvas, patient: Patient, tissue: dict[str, float]) -> None:
    """Paint the muscles beside the spine, then the spine."""
    generator = patient.stream("skeleton")
    for side in (-1.0, 1.0):
        bulk = generator.uniform(0.85, 1.15)
        path = patient.place(
            [[30 * side, -6, 10], [34 * side, -2, -40], [42 * side, 2, -95], [50 * side, 8, -150]], follow=0.0
        )
        samples, share = curve(path, 5.0)
        canvas.paint(sweep(canvas.grid, samples, bulk * (7 + 16 * share)), tissue["muscle"], mottle=6.0)
        path = patient.place([[13 * side, 20, -40], [15 * side, 27, 20], [24 * side, 32, 95]], follow=0.0)
        samples, share = curve(path, 4.0)
        canvas.paint(sweep(canvas.grid, samples, 3.0 + 3.0 * share), tissue["muscle"], mottle=5.0)
    _paint_spine(canvas, patient, tissue, generator)


def _paint_spine(canvas: Canvas, patient: Patient, tissue: dict[str, float], generator: np.random.Generator) -> None:
    """Vertebrae 35 mm apart: body with spongy core and cortical shell, canal, arch and processes."""
    size = patient.size
    window = canvas.grid.window(np.array([-62.0, -95.0, -1e3]), np.array([62.0, 40.0, 1e3]))
    x, y, z = canvas.grid.axes(window)
    x, y = patient.unturned(x, y)
    bend, bow = generator.uniform(-6, 6), generator.uniform(-8, 4)
    x = x - bend * (z / 100.0) ** 2
    y = y - bow * ((z + 20) / 100.0) ** 2
    pitch = 35.0 * size
    level = np.remainder(z + pitch / 2, pitch) - pitch / 2
    waist = 1.0 - 0.09 * np.cos(level * (2 * np.pi / pitch))
    wide, deep = 23.0 * size, 16.5 * size
    ring = (np.sqrt((x / wide) ** 2 + (y / deep) ** 2) - waist) * deep
    bone = np.maximum(ring, np.abs(level) - 13.2 * size)
    disc = Field(window, np.maximum(ring, 0.0 * level - 1.0))
    canvas.paint(disc, tissue["disc"], mottle=3.0)
    dense = generator.uniform(0.75, 1.2)
    arch = _arch(x, y, level, size)
    canvas.paint(Field(window, np.minimum(bone, arch)), t.CORTICAL * dense, mottle=15.0)
    canvas.paint(Field(window, np.minimum(bone + 2.4, arch + 3.0)), t.SPONGY * dense, mottle=16.0)
    canal = (np.sqrt((x / 9.5) ** 2 + ((y + deep + 9 * size) / 8.0) ** 2) - 1.0) * 8.0 + 0.0 * level
    canvas.paint(Field(window, canal), t.CORD, mottle=3.0)


def _arch(x: Array, y: Array, level: Array, size: float) -> Array:
    """About the signed distance in mm to a vertebra's arch, spinous and transverse processes."""
    back = y + 25.5 * size
    arch = np.abs(np.sqrt((x / 14.0) ** 2 + (back / 12.5) ** 2) - 1.0) * 12.0 - 3.2
    arch = np.maximum(arch, np.abs(level) - 11.0)
    spine = np.maximum(np.abs(x) - 3.6, np.abs(y + 47 * size) - 12 * size)
    spine = np.maximum(spine, np.abs(level + 5.0) - 9.5)
    across = np.sqrt((level - 2.0) ** 2 + (y + 25 * size - 0.16 * np.abs(x)) ** 2) - 4.5
    across = np.maximum(across, np.abs(np.abs(x) - 26 * size) - 14 * size)
    processes: Array = np.minimum(np.minimum(arch, spine), across)
    return processes
