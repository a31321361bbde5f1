"""Liver, gallbladder, spleen, kidneys, adrenals and the heart's lower end."""

from __future__ import annotations

import numpy as np

from datamodules.anatomy import tissue as t
from datamodules.anatomy.canvas import Canvas
from datamodules.anatomy.grid import Array, Window
from datamodules.anatomy.patient import Patient
from datamodules.anatomy.shapes import Field, SmoothNoise, curve, ellipsoid, rotation, sweep


def paint_solid(canvas: Canvas, patient: Patient, tissue: dict[str, float]) -> None:
    """Paint the solid organs but the pancreas, which they keep clear of by a plane of fat."""
    plane = 0.8 + 4.0 * patient.adiposity
    _paint_heart(canvas, patient, tissue)
    _paint_liver(canvas, patient, tissue, plane)
    _paint_spleen(canvas, patient, tissue, plane)
    for side in (1.0, -1.0):
        _paint_kidney(canvas, patient, tissue, side, plane)
        _paint_adrenal(canvas, patient, tissue, side)


def _paint_heart(canvas: Canvas, patient: Patient, tissue: dict[str, float]) -> None:
    centre = patient.place([[-22, 62, 128]])[0]
    canvas.paint(ellipsoid(canvas.grid, centre, (62, 46, 42), patient.turn), tissue["heart"])


def _paint_liver(canvas: Canvas, patient: Patient, tissue: dict[str, float], plane: float) -> None:
    generator = patient.stream("liver")
    large = generator.uniform(0.9, 1.14)
    centres = patient.place([[78, 26, 24], [6, 68, 46], [24, 42, 38]])
    centres += generator.normal(0, 4.0, (3, 3))
    right = np.array([64.0, 78.0, 78.0]) * large * generator.uniform(0.92, 1.1, 3)
    left = np.array([66.0, 44.0, 36.0]) * large * generator.uniform(0.8, 1.15, 3)
    parts = [
        ellipsoid(canvas.grid, centres[0], right, patient.turn),
        ellipsoid(canvas.grid, centres[1], left, rotation(about_y=generator.uniform(-22, 5))),
        ellipsoid(canvas.grid, centres[2], (20, 16, 27)),
    ]
    canvas_box = [p.window for p in parts]
    window = (
        slice(min(w[0].start for w in canvas_box), max(w[0].stop for w in canvas_box)),
        slice(min(w[1].start for w in canvas_box), max(w[1].stop for w in canvas_box)),
        slice(min(w[2].start for w in canvas_box), max(w[2].stop for w in canvas_box)),
    )
    grid = canvas.grid
    axes = grid.x[window[0]], grid.y[window[1]], grid.z[window[2]]
    distance = np.full(tuple(len(axis) for axis in axes), 1e2)
    for part in parts:
        inner = tuple(
            slice(own.start - all_.start, own.stop - all_.start) for own, all_ in zip(part.window, window, strict=True)
        )
        view = distance[inner]
        # Polynomial smooth minimum: the lobes run into each other without a crease.
        blend = np.clip(0.5 + 0.5 * (part.distance - view) / 9.0, 0.0, 1.0)
        view[:] = part.distance + blend * (view - part.distance) - 9.0 * blend * (1.0 - blend)
    waves = SmoothNoise(generator, (-180.0, -120.0, -180.0), (220.0, 240.0, 220.0), 34.0)(*axes)
    distance += 3.0 * waves
    _keep_clear(distance, window, ellipsoid(grid, patient.place([[50, -28, -30]])[0], (54, 50, 66), margin=25))
    fatty = generator.uniform(0, 1) * max(0.0, patient.adiposity - 0.4) * 45.0
    canvas.paint(Field(window, distance), tissue["liver"] - fatty, clear=plane, inside=1.5)
    _paint_liver_vessels(canvas, patient, tissue, generator)
    if generator.uniform() < 0.88:
        centre = patient.place([[56, 74, -14]])[0] + generator.normal(0, 5.0, 3)
        axes_mm = np.array([13.0, 15.0, 25.0]) * generator.uniform(0.7, 1.2, 3)
        turn = rotation(generator.uniform(10, 40), generator.uniform(-20, 20))
        bladder = ellipsoid(canvas.grid, centre, axes_mm, turn)
        canvas.paint(bladder, tissue["gut"], clear=plane, inside=2.0)
        canvas.paint(Field(bladder.window, bladder.distance + 1.8), tissue["bile"], clear=plane + 1.8, inside=3.8)


def _keep_clear(distance: Array, window: Window, other: Field) -> None:
    """Take another shape away from one, with a soft edge; in place."""
    whole = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(window, other.window, strict=True))
    mine = tuple(slice(c.start - a.start, c.stop - a.start) for c, a in zip(whole, window, strict=True))
    its = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(whole, other.window, strict=True))
    if any(c.stop <= c.start for c in whole):
        return
    view, away = distance[mine], -other.distance[its]
    blend = np.clip(0.5 - 0.5 * (away - view) / 10.0, 0.0, 1.0)
    view[:] = away + blend * (view - away) + 10.0 * blend * (1.0 - blend)


def _paint_liver_vessels(
    canvas: Canvas, patient: Patient, tissue: dict[str, float], generator: np.random.Generator
) -> None:
    """Hepatic veins that meet in the cava below the diaphragm, and branches of the portal vein."""
    gate, hilum = (22.0, 30.0, 72.0), (40.0, 48.0, 32.0)
    veins = [(gate, end, "cava", 4.5) for end in ((112, 30, 40), (72, 84, 36), (4, 86, 52))]
    veins += [(hilum, end, "portal", 5.0) for end in ((104, 8, 24), (100, 60, 50), (0, 76, 46), (88, 30, 2))]
    for start, end, blood, radius in veins:
        bend = (np.array(start) + np.array(end)) / 2 + generator.normal(0, 7.0, 3)
        samples, share = curve(patient.place([start, tuple(bend), end]), 2.5)
        field = sweep(canvas.grid, samples, radius * (1.0 - 0.65 * share), margin=2.5)
        canvas.paint(field, tissue[blood], mottle=2.0, clear=2.0, inside=6.0)


def _paint_spleen(canvas: Canvas, patient: Patient, tissue: dict[str, float], plane: float) -> None:
    generator = patient.stream("spleen")
    large = float(np.clip(generator.normal(1.0, 0.13), 0.75, 1.35))
    centre = patient.place([[-100, -6, 34]])[0] + generator.normal(0, 5.0, 3)
    turn = rotation(generator.uniform(-25, 5), generator.uniform(-15, 15), generator.uniform(12, 38))
    spleen = ellipsoid(canvas.grid, centre, (29 * large, 48 * large, 50 * large), turn)
    hollow = ellipsoid(canvas.grid, centre + np.array([41.0, 22.0, 0.0]) * large, (26, 36, 46), turn, margin=30)
    distance = np.full(canvas.grid.shape, -1e2)
    distance[hollow.window] = 1.0 - hollow.distance
    shape = Field(spleen.window, np.maximum(spleen.distance, distance[spleen.window]))
    canvas.paint(shape, tissue["spleen"], clear=plane, inside=1.5)


def _paint_kidney(canvas: Canvas, patient: Patient, tissue: dict[str, float], side: float, plane: float) -> None:
    generator = patient.stream("kidney right" if side > 0 else "kidney left")
    large = float(np.clip(generator.normal(1.0, 0.08), 0.8, 1.2)) * patient.size
    middle = [62.0 * side, -6.0, -24.0 if side > 0 else -12.0]
    centre = patient.place([middle], follow=0.45)[0] + generator.normal(0, 4.0, 3) * (1, 0.6, 2)
    turn = rotation(-8.0, 14.0 * side, 32.0 * side) @ rotation(*generator.normal(0, 4.0, 3))
    axes = np.array([29.0, 23.0, 54.0]) * large * generator.uniform(0.93, 1.07, 3)
    halo = 2.0 + 6.0 * patient.adiposity
    kidney = ellipsoid(canvas.grid, centre, axes, turn, margin=halo + 5)
    capsule = Field(kidney.window, kidney.distance - halo)
    canvas.paint(capsule, t.FAT, mottle=6.0, clear=0.0, inside=0.5)
    distance = kidney.distance
    toward = turn @ np.array([-side * 24.0, 6.0, 0.0]) * large
    sinus = ellipsoid(canvas.grid, centre + toward, (23 * large, 11 * large, 21 * large), turn, margin=60)
    whole = np.full(canvas.grid.shape, 60.0)
    whole[sinus.window] = sinus.distance
    hollow = whole[kidney.window]
    canvas.paint(Field(kidney.window, np.maximum(distance, 0.5 - hollow)), tissue["cortex"], clear=plane)
    pyramids = np.maximum(distance + 6.5, 3.5 - hollow) + 2.2 * canvas.texture[kidney.window]
    canvas.paint(Field(kidney.window, pyramids), tissue["medulla"], mottle=5.0, clear=plane + 5)
    pelvis = Field(kidney.window, np.maximum(hollow + 8.0, distance + 3.0))
    canvas.paint(pelvis, tissue["fluid"], mottle=3.0, clear=plane)


def _paint_adrenal(canvas: Canvas, patient: Patient, tissue: dict[str, float], side: float) -> None:
    generator = patient.stream("adrenal right" if side > 0 else "adrenal left")
    top = np.array([29.0 * side, 14.0, 30.0 if side > 0 else 22.0]) + generator.normal(0, 2.0, 3)
    for limb in ((5.0 * side, -14.0, -8.0), (12.0 * side, -9.0, -10.0)):
        end: Array = top + np.array(limb)
        samples, _ = curve(patient.place([top, (top + end) / 2 + (side, 1, 0), end], follow=0.3), 2.0)
        field = sweep(canvas.grid, samples, 2.4, height=2.2, margin=2.5)
        canvas.paint(field, tissue["adrenal"], clear=1.5)
