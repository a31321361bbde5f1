"""From a case's own voxels to the grid that training sees; pure functions, no random draw, no statistic of a site.

Canonical orientation → HU clipped → box around the body → spacing. The stored grid's affine is exact: a voxel's
world coordinates are those of the tissue it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import CaseError
from datamodules.grids import antialias, body_box, target_grid, without_dust
from datamodules.store import HU_RANGE, Spacing

if TYPE_CHECKING:
    import torchio as tio

MAX_VOXELS = 2**30
"""Of a stored grid: more would fill memory and disk."""


@dataclass(frozen=True)
class Canonical:
    """A case on the grid it is stored on; axes D, H, W run left to right, posterior to anterior, and upwards.

    Attributes:
        image: int16 D×H×W, HU clipped to the store's range.
        label: uint8 D×H×W, 0 or 1; None where there is none.
        affine: 4×4, voxel to world in RAS mm.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8] | None
    affine: NDArray[np.float64]


def preprocess(image: tio.ScalarImage, label: tio.LabelMap | None, spacing: Spacing) -> Canonical:
    """Orient, clip, crop to the body and resample: linear for HU, nearest for the label.

    Where the grid gets coarser, HU are smoothed first, so that noise and edges do not alias (by as much as the
    coarser grid's point spread is wider: Cardoso et al., MICCAI 2015).

    Args:
        image: 1×W×H×D HU in any orientation.
        label: on the same grid, 0 or 1.
        spacing: mm along left-right, posterior-anterior, inferior-superior.

    Raises:
        CaseError: nothing of the label is left at this spacing, or the grid would be absurdly large.
    """
    import torch
    import torchio as tio

    image = tio.ToCanonical()(image)
    hu = image.data[0].numpy().astype(np.float32).clip(*HU_RANGE)
    mask = None if label is None else tio.ToCanonical()(label).data[0].numpy()
    affine = without_dust(np.asarray(image.affine, dtype=np.float64))
    shape, grid = target_grid(body_box(hu, mask, affine), affine, spacing)
    if np.prod(shape, dtype=object) > MAX_VOXELS:
        raise CaseError(
            f"at {_times(spacing)} mm it would have {' × '.join(map(str, shape))} voxels: is its spacing right, or a "
            f"coarser one wanted (data.spacing)?"
        )
    resample = tio.Resample((shape, grid))
    smooth = tio.ScalarImage(tensor=torch.from_numpy(antialias(hu, affine, spacing))[None], affine=affine)
    stored = resample(smooth).data[0].numpy().round().clip(*HU_RANGE).astype(np.int16)
    if mask is None:
        return Canonical(stored, None, grid)
    kept = resample(tio.LabelMap(tensor=torch.from_numpy(mask)[None], affine=affine)).data[0].numpy()
    if not kept.any():
        raise CaseError(f"its label is so small that nothing of it is left at {_times(spacing)} mm")
    return Canonical(stored, kept.astype(np.uint8), grid)


def _times(spacing: Spacing) -> str:
    return " × ".join(f"{edge:.3g}" for edge in spacing)
