"""A lesion of the pancreas: a hypodense tumour or a cyst, and the duct that it has dilated towards the tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.anatomy.canvas import Canvas
from datamodules.anatomy.grid import Array
from datamodules.anatomy.pancreas import Pancreas
from datamodules.anatomy.patient import Patient
from datamodules.anatomy.shapes import Field, ellipsoid, rotation, sweep


@dataclass(frozen=True)
class Lesion:
    """A lesion on the grid.

    Attributes:
        body: the lesion.
        duct: the dilated duct between it and the tail.
        kind: ``"tumour"`` or ``"cyst"``.
    """

    body: Field
    duct: Field
    kind: str


def draw_lesion(canvas: Canvas, patient: Patient, pancreas: Pancreas) -> Lesion | None:
    """The patient's lesion, None where it has none.

    Two of three lie in the head; half axes of 5 to 19 mm; the duct is 1.5 to 3.5 mm in radius (normal: up to 1.5).
    """
    if patient.lesion <= 0:
        return None
    generator = patient.stream("lesion")
    kind = "tumour" if generator.uniform() < 0.7 else "cyst"
    place = generator.uniform(0.05, 0.25) if generator.uniform() < 2 / 3 else generator.uniform(0.4, 0.85)
    centre, radius = pancreas.at(place)
    centre = centre + generator.uniform(-0.4, 0.4, 3) * radius
    axes = (4.0 + 14.0 * patient.lesion) * generator.uniform(0.75, 1.1, 3)
    body = ellipsoid(canvas.grid, centre, axes, rotation(*generator.uniform(-90, 90, 3)), margin=9.0)
    upstream: Array = pancreas.axis[round(place * len(pancreas.axis)) : round(0.95 * len(pancreas.axis))]
    duct = sweep(canvas.grid, upstream, 1.2 + generator.uniform(1.2, 2.3) * patient.lesion)
    return Lesion(body, duct, kind)


def paint_lesion(canvas: Canvas, lesion: Lesion, tissue: dict[str, float]) -> Array:
    """Paint a lesion and its duct inside the pancreas.

    Returns:
        The share of each voxel that is lesion, of the whole grid's shape.
    """
    whole = np.zeros(canvas.grid.shape)
    duct = np.maximum(lesion.duct.distance, canvas.pancreas[lesion.duct.window] + 1.0)
    canvas.paint(Field(lesion.duct.window, duct), tissue["fluid"], mottle=2.0)
    body = np.maximum(lesion.body.distance, canvas.pancreas[lesion.body.window] + 0.5)
    if lesion.kind == "cyst":
        canvas.paint(Field(lesion.body.window, body), tissue["pancreas"] - 15.0)
        canvas.paint(Field(lesion.body.window, body + 1.5), tissue["cyst"], mottle=2.0)
    else:
        canvas.paint(Field(lesion.body.window, body * 0.6), tissue["tumour"], mottle=8.0)
    whole[lesion.body.window] = canvas.cover(body)
    return whole
