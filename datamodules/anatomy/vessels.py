"""Aorta and cava, the portal veins behind the pancreas, the arteries that leave for the organs, the bile duct."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodules.anatomy import tissue as t
from datamodules.anatomy.canvas import Canvas
from datamodules.anatomy.grid import Array, Points
from datamodules.anatomy.pancreas import Pancreas
from datamodules.anatomy.patient import Patient
from datamodules.anatomy.shapes import Field, curve, sweep


def paint_vessels(canvas: Canvas, patient: Patient, pancreas: Pancreas, tissue: dict[str, float]) -> None:
    """Paint the vessels over all else; where they groove the pancreas they take its place."""
    generator = patient.stream("vessels")
    old = generator.uniform() < 0.4
    blood = Blood(canvas, tissue, clear=0.6 + 1.2 * patient.adiposity)
    _paint_trunks(blood, patient, generator, calcified=old)
    confluence = _paint_portal(blood, patient, pancreas, generator)
    _paint_arteries(blood, patient, pancreas, generator)
    duct = [
        [confluence[0] + 30, confluence[1] + 6, confluence[2] + 34],
        [confluence[0] + 22, confluence[1] - 4, confluence[2] + 12],
        [pancreas.at(0.05)[0][0] + 3, pancreas.at(0.05)[0][1] - 9, pancreas.at(0.05)[0][2] - 4],
    ]
    blood.tube(duct, (3.2, 2.3), "bile")


class Blood:
    """Paints tubes of one tissue each.

    Args:
        canvas: where they are painted.
        tissue: HU by name.
        clear: thickness in mm of the fat around a vessel where it is not in the pancreas.
    """

    def __init__(self, canvas: Canvas, tissue: dict[str, float], clear: float) -> None:
        self.canvas = canvas
        self.tissue = tissue
        self.clear = clear

    def tube(self, points: Points, radii: Sequence[float], name: str, sheath: bool = True) -> Field:
        """Paint a tube through control points (mm, patient coordinates) with radii evenly spread along it."""
        samples, share = curve(points, 2.0 if max(radii) < 4 else 3.0)
        sizes = np.interp(share, np.linspace(0, 1, len(radii)), radii)
        field = sweep(self.canvas.grid, samples, sizes, margin=4.0)
        if sheath:
            halo = Field(field.window, field.distance - self.clear)
            self.canvas.paint(halo, t.FAT, clear=0.0)
        self.canvas.paint(field, self.tissue[name], mottle=2.5, over_pancreas=True)
        return field


def _paint_trunks(blood: Blood, patient: Patient, generator: np.random.Generator, calcified: bool) -> None:
    lean = generator.uniform(-5, 5)
    wide = generator.uniform(8.0, 11.0)
    aorta: list[list[float]] = [[-9 + lean, 31, -150], [-8 + lean * 0.5, 30, -60], [-7, 28, 20], [-9, 22, 120]]
    field = blood.tube(patient.place(aorta, follow=0.15), (wide * 0.8, wide, wide * 1.1, wide * 1.25), "aorta")
    if calcified:
        x, y, z = blood.canvas.grid.axes(field.window)
        speck = np.abs(field.distance + 0.3) + 0.06 * np.abs(np.remainder(z + 3.0 * x, 34.0) - 17.0) - 1.2
        share = blood.canvas.cover(speck + 0.8 + np.maximum(0.0, (y - 30.0) * 0.1))
        view = blood.canvas.hu[field.window]
        view += share * (520.0 - view)
    flat = generator.uniform(8.0, 11.5)
    cava = [[20, 26, -150], [21, 27, -50], [22, 31, 20], [22, 36, 100]]
    blood.tube(patient.place(cava, follow=0.15), (flat, flat, flat * 1.05, flat * 1.2), "cava")
    for side, height in ((1.0, -16.0), (-1.0, -8.0)):
        start = (18.0, 27.0, height) if side > 0 else (14.0, 39.0, height)
        vein = [start, (0.5 * (start[0] + 44 * side), 26 if side > 0 else 37, height), (44 * side, 6, height - 4)]
        blood.tube(patient.place(vein, follow=0.2), (4.2, 4.0, 3.6), "cava")
        artery = [(-7, 27, height + 4), (22 * side, 19, height + 2), (44 * side, 2, height - 2)]
        blood.tube(patient.place(artery, follow=0.2), (2.8, 2.4, 2.2), "aorta")


def _paint_portal(blood: Blood, patient: Patient, pancreas: Pancreas, generator: np.random.Generator) -> Array:
    """Superior mesenteric, splenic and portal vein. Returns where they meet, behind the neck; shape (3,)."""
    neck, thick = pancreas.at(0.31)
    wide = generator.uniform(5.0, 6.4)
    confluence: Array = neck + np.array([1.0, -(thick + 0.45 * wide), 0.0])
    root = confluence + np.array([2.0, 0.0, 0.0])
    mesenteric: list[Array | list[float]] = [
        [root[0] - 4, root[1] + 12, root[2] - 95],
        [root[0] - 1, root[1] + 3, root[2] - 48],
        [root[0] + 1, root[1], root[2] - 18],
        confluence,
    ]
    blood.tube(mesenteric, (3.5, wide * 0.85, wide), "portal")
    hilum = patient.place([[42, 50, 36]])[0]
    blood.tube([confluence, (confluence + hilum) / 2 + (4, -3, 3), hilum], (wide, wide * 1.1, wide), "portal")
    for branch in range(9):
        start = root + np.array([0.0, 3.0, -18.0 - 9.0 * branch])
        way = generator.normal(0, 1.0, 3) * (24, 10, 16) + (-40 if branch % 2 else 34, 14, -20)
        blood.tube([start, start + way * 0.5 + (0, 5, 0), start + way], (2.3, 1.2), "portal")

    first, last = round(0.34 * len(pancreas.axis)), round(0.97 * len(pancreas.axis))
    chosen = np.linspace(first, last - 1, 9).round().astype(int)
    tangent = np.gradient(pancreas.axis, axis=0)[chosen]
    behind = np.stack([tangent[:, 1], -tangent[:, 0], np.zeros(len(chosen))], axis=1)
    behind *= np.where(behind[:, 1] > 0, -1.0, 1.0)[:, None]
    behind /= np.sqrt(np.sum(behind**2, axis=1))[:, None]
    vein_radius = generator.uniform(3.4, 4.6)
    path = pancreas.axis[chosen] + behind * (pancreas.radii[chosen] + 0.4 * vein_radius)[:, None]
    path[:, 2] += generator.uniform(-2, 6)
    spleen = patient.place([[-92, 4, 38]])[0]
    blood.tube(np.concatenate([confluence[None], path, spleen[None]]), (vein_radius * 1.15, vein_radius), "portal")
    return confluence


def _paint_arteries(blood: Blood, patient: Patient, pancreas: Pancreas, generator: np.random.Generator) -> None:
    body, thick = pancreas.at(0.46)
    neck, neck_thick = pancreas.at(0.31)
    aorta = patient.place([[-7, 36, 18]], follow=0.15)[0]
    front = min(neck[1], body[1]) - max(thick, neck_thick) - 6.0
    mesenteric = [
        aorta,
        [neck[0] - 14, front - 3, neck[2] - 2],
        [neck[0] - 13, front, neck[2] - 30],
        [neck[0] - 12, front + 8, neck[2] - 90],
    ]
    blood.tube(mesenteric, (3.8, 3.6, 3.0), "aorta")
    celiac = aorta + np.array([0.0, 14.0, 14.0])
    blood.tube([aorta + np.array([0.0, -3.0, 10.0]), aorta + np.array([0.0, 6.0, 14.0]), celiac], (3.6, 3.3), "aorta")
    chosen = np.linspace(0.42, 0.92, 7)
    path = [celiac]
    for number, share in enumerate(chosen):
        point, radius = pancreas.at(float(share))
        above = radius * pancreas.height + 2.0 + generator.uniform(-1, 5)
        path.append(point + np.array([0.0, -3.0 - 5.0 * (number % 2), above]))  # tortuous, along the upper border
    path.append(patient.place([[-90, 8, 46]])[0])
    blood.tube(np.array(path), (2.7, 2.3, 2.0), "aorta")
    hepatic = [celiac, celiac + np.array([22.0, 12.0, -2.0]), patient.place([[38, 54, 30]])[0]]
    blood.tube(hepatic, (2.5, 2.2, 2.0), "aorta")
