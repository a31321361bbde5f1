"""The regions of one case at one spacing, found as training finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray
from torch.nn import functional as F

from datamodules.preprocessing import preprocess
from datamodules.reading import read_label
from datamodules.store import AXIS_OUTSIDE, AXIS_STEPS, DISTANCE_SCALE, Spacing
from datamodules.structure import axis_coordinate, signed_distance
from datamodules.volume_files import read_volume
from datamodules.window import apply_window
from lightning_modules.regions.bounds import Bounds
from lightning_modules.regions.structure import cell_regions, voxel_regions

WINDOW = (-100.0, 240.0)
"""HU that are drawn black and white."""
SHADES = (-60, 130)
"""HU between which the other ids of a label file are drawn where there is no image."""


@dataclass(frozen=True)
class Regions:
    """A case's regions.

    Attributes:
        spacing: of the voxels along D, H, W, mm.
        stride: voxels per cell.
        bounds: where the regions end.
        image: D×H×W in [0, 1]; D, H and W are multiples of the stride.
        distance: d×h×w, mean signed distance of each cell's voxels to the surface, mm.
        cells: d×h×w, region ids of the cells.
    """

    spacing: Spacing
    stride: int
    bounds: Bounds
    image: NDArray[np.float32]
    distance: NDArray[np.float32]
    cells: NDArray[np.int64]


def measure(label: Path, ids: Sequence[int], image: Path | None, spacing: Spacing, stride: int) -> Regions:
    """Read, orient, resample and measure a case, and give each feature cell its region.

    Args:
        label: a NIfTI file.
        ids: the label ids that make up the pancreas.
        image: a NIfTI file or a folder with one DICOM series; None: the label file's other ids stand for it.
        spacing: training spacing along D, H, W, mm.
        stride: of the features that are contrasted.

    Raises:
        CaseError: a file that can't be used, or a label without pancreas.
        UsageError: the rings don't fit that stride and spacing.
    """
    bounds = Bounds.at(spacing, stride)
    voxels, grid = read_volume(label if image is None else image)
    mask = read_label(label, list(ids), grid)
    hu = _shaded(voxels, mask) if image is None else voxels.astype(np.float32)
    case = preprocess(
        tio.ScalarImage(tensor=torch.from_numpy(np.ascontiguousarray(hu))[None], affine=grid.affine),
        tio.LabelMap(tensor=torch.from_numpy(mask)[None], affine=grid.affine),
        spacing,
    )
    assert case.label is not None
    whole = tuple(slice(0, size - size % stride) for size in case.label.shape)
    distance = torch.from_numpy(signed_distance(case.label, spacing)[whole] / DISTANCE_SCALE).float()
    stored = axis_coordinate(case.label, case.affine)[whole]
    axis = torch.from_numpy(np.where(stored == AXIS_OUTSIDE, -1.0, stored / AXIS_STEPS)).float()
    cells = cell_regions(voxel_regions(distance, axis, bounds)[None], stride)[0]
    return Regions(
        spacing=spacing,
        stride=stride,
        bounds=bounds,
        image=apply_window(torch.from_numpy(case.image[whole]), WINDOW).numpy(),
        distance=F.avg_pool3d(distance[None], stride)[0].numpy(),
        cells=cells.numpy(),
    )


def _shaded(labels: NDArray[Any], pancreas: NDArray[np.uint8]) -> NDArray[np.float32]:
    """HU for a map of label ids: air where there is none, a grey of its own for every id."""
    low, high = SHADES
    shades = low + (labels.astype(np.int64) * 37 % 101) / 100 * (high - low)
    return np.where(labels > 0, np.where(pancreas > 0, high, shades), -1000).astype(np.float32)
