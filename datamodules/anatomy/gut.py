"""Stomach, duodenum, small bowel and colon: tubes with a wall and content; the first three touch the pancreas."""

from __future__ import annotations

import numpy as np

from datamodules.anatomy import tissue as t
from datamodules.anatomy.canvas import Canvas
from datamodules.anatomy.grid import Array
from datamodules.anatomy.pancreas import Pancreas
from datamodules.anatomy.patient import Patient
from datamodules.anatomy.shapes import Field, curve, sweep

GAS_FRONT = 1e3
"""A level of gas that nothing reaches: no gas."""


def paint_gut(canvas: Canvas, patient: Patient, pancreas: Pancreas, tissue: dict[str, float]) -> None:
    """Paint the alimentary tract around the pancreas, in the order in which it would hide itself."""
    _paint_colon(canvas, patient, tissue)
    path = _duodenum_path(patient, pancreas)
    _paint_small_bowel(canvas, patient, tissue, path[-1])
    _paint_stomach(canvas, patient, tissue, path[0])
    _paint_duodenum(canvas, patient, tissue, path)


def paint_loop(
    canvas: Canvas,
    field: Field,
    wall: tuple[float, float],
    content: float | Array | None,
    clear: float,
    level: float = GAS_FRONT,
    mottle: float = 5.0,
) -> None:
    """Paint one piece of gut in a thin sheath of fat.

    Args:
        canvas: where.
        field: its outer surface.
        wall: thickness in mm and HU of its wall.
        content: HU of what fills it; None: it is empty and collapsed.
        clear: how far in mm it keeps from the pancreas; 0: it touches it.
        level: the y in mm in front of which gas stands, as the patient lies on the back.
        mottle: deviation in HU of the noise on wall and content.
    """
    thickness, value = wall
    distance = np.maximum(field.distance, clear - canvas.pancreas[field.window])
    distance = np.maximum(distance, canvas.cavity[field.window] + 1.5)
    canvas.paint(Field(field.window, distance - 1.2), t.FAT, clear=0.0)
    canvas.paint(Field(field.window, distance), value, mottle=mottle)
    if content is None:
        return
    lumen = distance + thickness
    canvas.paint(Field(field.window, lumen), content, mottle=mottle)
    y = canvas.grid.axes(field.window)[1]
    if level < y.max(initial=-GAS_FRONT):
        canvas.paint(Field(field.window, np.maximum(lumen, level - y)), t.GAS, mottle=10.0)


def _paint_stomach(canvas: Canvas, patient: Patient, tissue: dict[str, float], pylorus: Array) -> None:
    generator = patient.stream("stomach")
    full = generator.uniform(0.55, 1.2)
    points = np.array([[-60, 14, 74], [-70, 46, 54], [-64, 78, 22], [-42, 94, -4], [-10, 92, -6]], float)
    points += generator.normal(0, 5.0, points.shape)
    points[2:, 2] += generator.uniform(-14, 14)
    placed = np.concatenate([patient.place(points), pylorus[None]])
    samples, share = curve(placed, 4.0)
    radii = full * np.interp(share, np.linspace(0, 1, 6), (28, 35, 31, 25, 19, 11)) * patient.size
    radii = np.maximum(radii, 9.0)
    field = sweep(canvas.grid, samples, radii, height=1.12)
    content = tissue["fluid"] if generator.uniform() < 0.5 else tissue["chyme"] + 14.0
    thick = float(np.interp(full, (0.55, 1.2), (5.5, 3.2)))
    front = float(placed[:, 1].max())
    level = front - generator.uniform(-14, 14) if generator.uniform() < 0.75 else GAS_FRONT
    paint_loop(canvas, field, (thick, tissue["gut"]), content, generator.uniform(0.0, 3.0), level, mottle=7.0)


def _duodenum_path(patient: Patient, pancreas: Pancreas) -> Array:
    """The duodenum's C around the pancreas' head, from the pylorus to where the jejunum begins; (8, 3), mm."""
    generator = patient.stream("duodenum path")
    head, radius = pancreas.at(0.05)
    neck, _ = pancreas.at(0.3)
    body, _ = pancreas.at(0.5)
    beside = radius + generator.uniform(8.0, 11.0)
    tall = radius * pancreas.height
    low = head[2] - tall - generator.uniform(8.0, 13.0)
    path = np.array(
        [
            [neck[0] + 16, neck[1] + 14, neck[2] + 14],
            [head[0] + 9, head[1] + 14, head[2] + tall + 9],
            [head[0] + beside, head[1] - 2, head[2] + tall * 0.6],
            [head[0] + beside + 1, head[1] - 7, head[2] - tall * 0.4],
            [head[0] + 0.45 * beside, head[1] - 7, low],
            [8.0, 45.0, low - 3],
            [-20.0, 42.0, low + 5],
            [-32.0, 48.0, min(low + 30, body[2] - 18)],
        ]
    )
    path[1:] += generator.normal(0, 2.0, (7, 3))
    return path


def _paint_duodenum(canvas: Canvas, patient: Patient, tissue: dict[str, float], path: Array) -> None:
    """Mostly collapsed, so that its enhancing folds and juice together come near the pancreas' own HU."""
    generator = patient.stream("duodenum")
    samples, share = curve(path, 3.0)
    wide = generator.uniform(9.0, 12.5) * patient.size
    radii = wide * (1.0 + 0.12 * np.sin(share * generator.uniform(20, 40) + generator.uniform(0, 6)))
    field = sweep(canvas.grid, samples, radii)
    folds = generator.uniform(0.55, 0.95)
    juice = folds * tissue["mucosa"] + (1 - folds) * tissue["fluid"]
    state = generator.uniform()
    content = None if state < 0.35 else juice if state < 0.8 else tissue["fluid"] + 8.0
    value = tissue["gut"] if content is not None else juice
    level = float(path[2, 1]) + 4.0 if generator.uniform() < 0.35 else GAS_FRONT
    paint_loop(canvas, field, (3.0, value), content, 0.0, level, mottle=8.0)


def _paint_small_bowel(canvas: Canvas, patient: Patient, tissue: dict[str, float], flexure: Array) -> None:
    generator = patient.stream("small bowel")
    boxes = [((-100, 28, -70), (0, 92, 2))] * 9 + [((-90, 25, -150), (90, 100, -50))] * 14
    for number, (low, high) in enumerate(boxes):
        corner, size = np.array(low, float), np.array(high, float) - np.array(low, float)
        start = corner + size * generator.uniform(0, 1, 3)
        points = [start]
        for _ in range(4):
            step = generator.standard_normal(3)
            step *= generator.uniform(22, 34) / np.sqrt(np.sum(step**2))
            inside = np.abs(np.remainder(points[-1] + step - corner, 2 * size) - size)
            points.append(corner + size - inside)  # reflected at the box' walls
        placed = patient.place(np.array(points))
        if number == 0:
            placed = np.concatenate([flexure[None], placed])
        samples, _ = curve(placed, 3.5)
        jejunum = number < 9
        radius = generator.uniform(8.5, 12.5) if jejunum else generator.uniform(8.0, 13.0)
        state = generator.uniform()
        wall = tissue["mucosa"] - 4.0 if jejunum else tissue["gut"]
        folds = generator.uniform(0.3, 0.75)
        content = None if state < 0.4 else folds * wall + (1 - folds) * tissue["fluid"]
        if content is None:
            wall = 0.8 * wall + 0.2 * tissue["fluid"]
        gas = generator.uniform() < 0.25
        level = float(placed[:, 1].mean()) + 3.0 if gas and content is not None else GAS_FRONT
        clear = generator.uniform(2.0, 6.0) if generator.uniform() < 0.5 else 0.3
        field = sweep(canvas.grid, samples, radius, margin=4.0)
        paint_loop(canvas, field, (2.4, wall), content, clear, level, mottle=8.0)


def _paint_colon(canvas: Canvas, patient: Patient, tissue: dict[str, float]) -> None:
    generator = patient.stream("colon")
    sag = generator.uniform(-45, 0)
    pieces = (
        [[98, 10, -150], [104, 12, -95], [100, 24, -48], [84, 54, -38]],
        [[84, 54, -38], [48, 92, -48 + sag * 0.6], [0, 100, -46 + sag], [-48, 96, -34 + sag * 0.4], [-88, 62, 6]],
        [[-88, 62, 6], [-108, 26, 14], [-112, 2, -30], [-108, 2, -90], [-100, 8, -150]],
    )
    for piece in pieces:
        points = np.array(piece, float)
        points[1:-1] += generator.normal(0, 6.0, (len(piece) - 2, 3))
        samples, share = curve(patient.place(points), 4.0)
        wide = generator.uniform(13.0, 22.0)
        radii = wide * (1.0 + 0.14 * np.sin(share * len(samples) * 0.75 + generator.uniform(0, 6)))
        field = sweep(canvas.grid, samples, radii)
        crumbs = canvas.texture[field.window]
        stool = generator.uniform(10, 45) - 420.0 * np.clip(crumbs - generator.uniform(0.9, 1.6), 0.0, 1.0)
        level = float(np.median(samples[:, 1])) + generator.uniform(-10, 14)
        gas = level if generator.uniform() < 0.7 else GAS_FRONT
        paint_loop(canvas, field, (2.2, tissue["gut"] - 6), stool, generator.uniform(2.5, 8.0), gas, mottle=12.0)
