"""A whole patient on a grid."""

from __future__ import annotations

import numpy as np

from datamodules.anatomy.canvas import Canvas
from datamodules.anatomy.grid import Array, Grid
from datamodules.anatomy.gut import paint_gut
from datamodules.anatomy.lesion import draw_lesion, paint_lesion
from datamodules.anatomy.pancreas import draw_pancreas, paint_pancreas, shape_pancreas
from datamodules.anatomy.patient import Patient
from datamodules.anatomy.shapes import SmoothNoise
from datamodules.anatomy.skeleton import paint_skeleton
from datamodules.anatomy.solid import paint_solid
from datamodules.anatomy.tissue import draw_tissue
from datamodules.anatomy.torso import paint_torso
from datamodules.anatomy.vessels import paint_vessels

EXTENT = ((-280.0, -220.0, -230.0), (280.0, 300.0, 230.0))
"""The box in mm that all grids lie in."""


def paint_patient(patient: Patient, grid: Grid, phase: float) -> tuple[Array, Array, Array]:
    """Paint a patient before any scanner has blurred it.

    Args:
        patient: who.
        grid: where.
        phase: contrast phase as in `tissue.draw_tissue`.

    Returns:
        HU, the share of each voxel that is pancreas (lesion and duct included), and the share that is lesion, each
        of shape (X, Y, Z).
    """
    tissue = draw_tissue(patient.stream("tissue"), phase)
    texture = SmoothNoise(patient.stream("texture"), *EXTENT, 9.0)(grid.x, grid.y, grid.z)
    canvas = Canvas(grid, texture)
    pancreas = draw_pancreas(patient)
    lesion = draw_lesion(canvas, patient, pancreas)
    gland = shape_pancreas(canvas, patient, pancreas, lesion.body if lesion else None)
    paint_torso(canvas, patient, tissue)
    paint_skeleton(canvas, patient, tissue)
    paint_solid(canvas, patient, tissue)
    paint_gut(canvas, patient, pancreas, tissue)
    paint_pancreas(canvas, patient, gland, tissue)
    tumour = paint_lesion(canvas, lesion, tissue) if lesion else np.zeros(grid.shape)
    paint_vessels(canvas, patient, pancreas, tissue)
    return canvas.hu, canvas.pancreas_cover, np.minimum(tumour, canvas.pancreas_cover)
