"""From a case's own voxels to the grid that training sees; pure functions, no random draw, no statistic of a site.

Canonical orientation → HU clipped → box around the body → spacing. The stored grid's affine is exact: a voxel's
world coordinates are those of the tissue it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.errors import CaseError
from datamodules.store import HU_RANGE, Shape, Spacing
from datamodules.volume_files import without_dust

if TYPE_CHECKING:
    import torchio as tio

BODY_HU = -500.0
"""Halfway between air and tissue."""
BODY_STEP = 4.0
"""Mm between the voxels on which the body is looked for."""
MARGIN = 10.0
"""Mm around body and label that are kept."""
MIN_BLUR = 0.2
"""Standard deviation in voxels below which smoothing does nothing."""

Box = tuple[slice, slice, slice]


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
        CaseError: nothing of the label is left at this spacing.
    """
    import torch
    import torchio as tio

    image = tio.ToCanonical()(image)
    hu = image.data[0].numpy().astype(np.float32).clip(*HU_RANGE)
    mask = None if label is None else tio.ToCanonical()(label).data[0].numpy()
    affine = without_dust(np.asarray(image.affine, dtype=np.float64))
    shape, grid = target_grid(body_box(hu, mask, affine), affine, spacing)
    resample = tio.Resample((shape, grid))
    smooth = tio.ScalarImage(tensor=torch.from_numpy(antialias(hu, affine, spacing))[None], affine=affine)
    stored = resample(smooth).data[0].numpy().round().clip(*HU_RANGE).astype(np.int16)
    if mask is None:
        return Canonical(stored, None, grid)
    kept = resample(tio.LabelMap(tensor=torch.from_numpy(mask)[None], affine=affine)).data[0].numpy()
    if not kept.any():
        edges = " × ".join(f"{edge:.3g}" for edge in spacing)
        raise CaseError(f"its label is so small that nothing of it is left at {edges} mm")
    return Canonical(stored, kept.astype(np.uint8), grid)


def body_box(hu: NDArray[np.float32], label: NDArray[np.uint8] | None, affine: NDArray[np.float64]) -> Box:
    """The box around the largest connected piece above air, and around the label, with a margin.

    Args:
        hu: D×H×W.
        label: D×H×W; what it marks is in the box whatever its HU.
        affine: 4×4, voxel to mm.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    step = np.maximum(1, np.round(BODY_STEP / edges)).astype(int)
    coarse = hu[:: step[0], :: step[1], :: step[2]] > BODY_HU
    # Opened, so that a table that only touches the skin does not hold on to it.
    opened = ndimage.binary_opening(coarse)
    pieces, count = ndimage.label(opened)
    if count:
        body = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    else:
        body = coarse if coarse.any() else np.ones_like(coarse)
    low, high = _bounds(body)
    low, high = low * step, (high - 1) * step + step
    if label is not None and label.any():
        first, last = _bounds(label)
        low, high = np.minimum(low, first), np.maximum(high, last)
    margin = np.ceil(MARGIN / edges).astype(int)
    low, high = np.maximum(low - margin, 0), np.minimum(high + margin, hu.shape)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])), slice(int(low[2]), int(high[2]))


def target_grid(box: Box, affine: NDArray[np.float64], spacing: Spacing) -> tuple[Shape, NDArray[np.float64]]:
    """The grid of ``spacing`` that covers a box of voxels, centred on it.

    Args:
        box: of voxels in the original grid.
        affine: 4×4 of the original grid.
        spacing: mm along its axes.

    Returns:
        Shape, and 4×4 voxel to world; no voxel's centre lies outside the box.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    low = np.array([side.start for side in box])
    size = np.array([side.stop - side.start for side in box])
    count = np.maximum(1, np.ceil(size * edges / np.array(spacing) - 1e-3)).astype(int)
    scale = np.array(spacing) / edges
    grid = affine.copy()
    grid[:3, :3] = affine[:3, :3] * scale
    first = low + (size - 1) / 2 - (count - 1) / 2 * scale
    grid[:3, 3] = affine[:3, :3] @ first + affine[:3, 3]
    return (int(count[0]), int(count[1]), int(count[2])), grid


def antialias(hu: NDArray[np.float32], affine: NDArray[np.float64], spacing: Spacing) -> NDArray[np.float32]:
    """HU smoothed along each axis that gets coarser, to a Gaussian point spread as wide as the new spacing."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    wider = np.maximum(np.array(spacing) ** 2 - edges**2, 0)
    sigmas = np.sqrt(wider / (8 * np.log(2))) / edges
    for axis, sigma in enumerate(sigmas):
        if sigma >= MIN_BLUR:
            hu = ndimage.gaussian_filter1d(hu, sigma, axis=axis, mode="nearest", truncate=3.0)
    return hu


def _bounds(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First voxel and one past the last voxel of a mask along each axis."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return np.array([side.start for side in found]), np.array([side.stop for side in found])
