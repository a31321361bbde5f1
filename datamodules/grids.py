"""Between a CT's own voxels and the grid that a network sees; needs nothing of the project.

An exported bundle carries this file as it is, so that both come to the same voxels. Affines are 4×4, voxel to world in
RAS mm; D, H, W the axes of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

BODY_HU = -500.0
"""Halfway between air and tissue."""
BODY_STEP = 4.0
"""Mm between the voxels on which the body is looked for."""
MARGIN = 10.0
"""Mm around body and label that are kept."""
TRUNCATE = 3.0
"""Standard deviations at which smoothing is cut off."""
REACH = 2
"""Voxels beside a point that interpolation may look at."""
MIN_BLUR = 0.2
"""Standard deviation in voxels below which smoothing does nothing."""
SLAB_VOXELS = 2**24
"""Voxels that are resampled at once."""
TILE = (64, 16)
"""Voxels along D and W that are copied at once from one order to another, all along H."""
FLIP_XY = np.diag([-1.0, -1.0, 1.0])
"""From RAS to ITK's LPS."""

Box = tuple[slice, slice, slice]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


def training_grid(
    hu: NDArray[np.float32], affine: NDArray[np.float64], spacing: Spacing, hu_range: tuple[float, float]
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """What :func:`datamodules.preprocessing.preprocess` makes of an image without a label, to the last bit.

    Args:
        hu: HU in any orientation.
        affine: of the image.
        spacing: mm along left-right, posterior-anterior, inferior-superior.
        hu_range: to which HU are clipped.

    Returns:
        HU D×H×W in RAS order, and the grid's affine.
    """
    hu, affine = canonical(hu, affine)
    hu, affine = hu.clip(*hu_range), without_dust(affine)
    box = body_box(hu, None, affine)
    shape, grid = target_grid(box, affine, spacing)
    antialias(hu, affine, spacing, box)
    return stored_hu(on_grid(hu, affine, shape, grid), hu_range), grid


def stored_hu(hu: NDArray[np.float32], hu_range: tuple[float, float]) -> NDArray[np.int16]:
    """HU as they are stored: whole numbers within a range, in C order; ``hu`` is used up."""
    return reordered(hu.round(out=hu).clip(*hu_range, out=hu), np.int16, "C")


def canonical(
    voxels: NDArray[np.float32], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels in the order nearest to RAS, and their affine."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    order = io_orientation(affine)
    turned = np.ascontiguousarray(apply_orientation(voxels, order), dtype=np.float32)
    return turned, affine @ inv_ornt_aff(order, voxels.shape)


def reordered(voxels: NDArray[Any], dtype: DTypeLike, order: Literal["C", "F"]) -> NDArray[Any]:
    """A copy of a volume in another order of memory, tile by tile: at one go each voxel would miss the cache."""
    found = np.empty(voxels.shape, dtype=dtype, order=order)
    wide, narrow = TILE
    for d in range(0, voxels.shape[0], wide):
        for w in range(0, voxels.shape[2], narrow):
            found[d : d + wide, :, w : w + narrow] = voxels[d : d + wide, :, w : w + narrow]
    return found


def body_box(hu: NDArray[np.float32], label: NDArray[np.uint8] | None, affine: NDArray[np.float64]) -> Box:
    """The box around the largest connected piece above air, and around the label, with a margin.

    Args:
        hu: D×H×W.
        label: D×H×W; what it marks is in the box whatever its HU.
        affine: 4×4, voxel to mm.
    """
    from scipy import ndimage

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


def antialias(hu: NDArray[np.float32], affine: NDArray[np.float64], spacing: Spacing, box: Box) -> None:
    """Smooth HU along each axis that gets coarser, to a Gaussian point spread as wide as the new spacing, in place.

    Args:
        hu: D×H×W.
        affine: 4×4, voxel to mm.
        spacing: mm along its axes, of the grid that is wanted.
        box: of the voxels between which that grid lies; what is far from it stays as it is.
    """
    from scipy import ndimage

    edges = np.linalg.norm(affine[:3, :3], axis=0)
    wider = np.maximum(np.array(spacing) ** 2 - edges**2, 0)
    sigmas = np.sqrt(wider / (8 * np.log(2))) / edges
    blurred = [(axis, sigma) for axis, sigma in enumerate(sigmas) if sigma >= MIN_BLUR]
    if not blurred:
        return
    wanted = _wider(box, (REACH,) * 3, hu.shape)
    # What lies beyond these does not come in, so that wanted voxels are as if all had been smoothed.
    seen = _wider(wanted, tuple(math.ceil(TRUNCATE * sigma) + 1 for sigma in sigmas), hu.shape)
    smooth = hu[seen].copy()
    for axis, sigma in blurred:
        ndimage.gaussian_filter1d(smooth, sigma, axis=axis, output=smooth, mode="nearest", truncate=TRUNCATE)
    inner = tuple(slice(w.start - s.start, w.stop - s.start) for w, s in zip(wanted, seen, strict=True))
    hu[wanted] = smooth[inner]


def resampled(
    voxels: NDArray[np.generic], affine: NDArray[np.float64], target: NDArray[np.float64], shape: Shape
) -> NDArray[np.float32]:
    """A map on another grid, oblique and left-handed ones too; linear, 0 outside of its own, slab by slab.

    Args:
        voxels: on the grid of ``affine``.
        affine: where they lie.
        target: affine of the grid that is wanted.
        shape: of that grid.
    """
    import SimpleITK

    # In the map's voxels, so that ITK needs no orthonormal directions: identity here, an affine transform there.
    moving = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T, dtype=np.float32))
    to_map = without_dust(np.linalg.inv(affine) @ target)
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(to_map[:3, :3].ravel().tolist())
    width, height, depth = shape
    found = np.empty(shape, dtype=np.float32)
    slab = max(1, SLAB_VOXELS // (width * height))
    for start in range(0, depth, slab):
        count = min(slab, depth - start)
        transform.SetTranslation((to_map[:3, 2] * start + to_map[:3, 3]).tolist())
        resampler = SimpleITK.ResampleImageFilter()
        resampler.SetSize((width, height, count))
        resampler.SetTransform(transform)
        resampler.SetInterpolator(SimpleITK.sitkLinear)
        resampler.SetDefaultPixelValue(0.0)
        part = resampler.Execute(moving)  # named, for the view does not keep it alive
        found[..., start : start + count] = SimpleITK.GetArrayViewFromImage(part).T
    return found


def larger_pieces(mask: NDArray[np.bool_], smallest: float) -> NDArray[np.bool_]:
    """A mask without its small connected pieces, voxels that meet at a corner being connected.

    Args:
        mask: D×H×W.
        smallest: share of the largest piece's voxels below which a piece is left out, in [0, 1]; 1 keeps the largest
            alone, 0 all of them.
    """
    from scipy import ndimage

    if smallest == 0 or not mask.any():
        return mask
    found = np.zeros_like(mask)
    low, high = _bounds(mask)
    box = tuple(slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    pieces, _ = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    found[box] = (sizes >= smallest * sizes.max())[pieces] & (pieces > 0)
    return found


def without_dust(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine whose entries under 1e-12 mm are 0: of denormal numbers ITK makes an empty volume."""
    return np.where(np.abs(affine) < 1e-12, 0.0, affine)


def on_grid(
    voxels: NDArray[Any], affine: NDArray[np.float64], shape: Shape, grid: NDArray[np.float64], nearest: bool = False
) -> NDArray[Any]:
    """A volume on a grid of the same directions, by the very calls with which TorchIO's ``Resample`` has ITK do it.

    Args:
        voxels: D×H×W, without a copy where they lie in Fortran's order, as in a NIfTI file.
        affine: where they lie.
        shape: of the grid that is wanted.
        grid: its affine.
        nearest: take the nearest voxel; else linear.

    Returns:
        Of the same type, D×H×W in Fortran's order.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(voxels.T)
    origin, spacing, direction = _as_itk_has_it(affine)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetInterpolator(SimpleITK.sitkNearestNeighbor if nearest else SimpleITK.sitkLinear)
    origin, spacing, direction = _as_itk_has_it(grid)
    resampler.SetOutputOrigin(origin)
    resampler.SetOutputSpacing(spacing)
    resampler.SetOutputDirection(direction)
    resampler.SetSize(shape)
    found: NDArray[Any] = SimpleITK.GetArrayFromImage(resampler.Execute(image)).T
    return found


def _wider(box: Box, by: Sequence[int], shape: Sequence[int]) -> Box:
    """A box and some voxels around it, as far as the volume goes."""
    d, h, w = (
        slice(max(0, side.start - more), min(size, side.stop + more))
        for side, more, size in zip(box, by, shape, strict=True)
    )
    return d, h, w


def _as_itk_has_it(affine: NDArray[np.float64]) -> tuple[list[float], list[float], list[float]]:
    """Origin, spacing and direction."""
    edges = np.sqrt(np.sum(affine[:3, :3] * affine[:3, :3], axis=0))
    direction = FLIP_XY @ (affine[:3, :3] / edges)
    return (FLIP_XY @ affine[:3, 3]).tolist(), edges.tolist(), direction.ravel().tolist()


def _bounds(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First voxel and one past the last voxel of a mask along each axis."""
    from scipy import ndimage

    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return np.array([side.start for side in found]), np.array([side.stop for side in found])
