"""A case as it lies on disk becomes a CT and a binary label on one grid, or a sentence that says why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datamodules.ct_evidence import not_a_ct
from datamodules.errors import CaseError
from datamodules.layouts.site import Case, SiteConfig
from datamodules.volume_files import Grid, read_volume

if TYPE_CHECKING:
    import torchio as tio

HU_BELIEVED = (-32768, 32767)
"""What a scanner can write; beyond it, values are no HU."""
GRID_TOLERANCE = 0.25
"""Greatest distance, in voxels of the image, between a corner of the image's grid and the label's."""
WHOLE_TOLERANCE = 1e-3
"""How far a label's value may be from a whole number."""


@dataclass(frozen=True)
class RawCase:
    """A case in its original voxels.

    Attributes:
        image: float32 HU, 1×W×H×D in the file's own orientation, with its affine.
        label: uint8 0 or 1 on the image's grid, None where none is asked for.
        warnings: what is odd and excludes nothing, one sentence each.
    """

    image: tio.ScalarImage
    label: tio.LabelMap | None
    warnings: list[str]


def read_case(case: Case, site: SiteConfig, labelled: bool = True) -> RawCase:
    """Read and check a case.

    Args:
        case: where its files are.
        site: tells which label ids are the pancreas and whether the image must look like a CT.
        labelled: read the label; without one the case can't be used.

    Raises:
        CaseError: why the case can't be used: a file missing or damaged, not a 3-D CT in HU, a label on another
            grid, without the wanted ids, or empty.
    """
    import torch
    import torchio as tio

    voxels, grid = read_volume(case.image)
    _check_hu(case.image, voxels)
    if site.check_ct and (reason := not_a_ct(voxels)):
        raise CaseError(f"{case.image}: {reason}")
    image = tio.ScalarImage(tensor=torch.from_numpy(voxels.astype(np.float32, order="C"))[None], affine=grid.affine)
    if not labelled:
        return RawCase(image, None, [])
    if case.label is None:
        raise CaseError("it has no label")
    mask = read_label(case.label, site.labels, grid)
    label = tio.LabelMap(tensor=torch.from_numpy(mask)[None], affine=grid.affine)
    return RawCase(image, label, _cut_off(mask))


def read_label(path: Path, ids: list[int], grid: Grid) -> NDArray[np.uint8]:
    """The pancreas on the image's grid, whatever orientation the label is stored in.

    Args:
        path: a NIfTI file.
        ids: the label ids that are merged.
        grid: the image's grid, which the label's voxels must fill.

    Returns:
        uint8 of the grid's shape, 0 or 1.

    Raises:
        CaseError: the label lies on another grid, is not of whole numbers, or has none of the ids.
    """
    voxels, own = read_volume(path)
    aligned = _aligned(path, voxels, own, grid)
    if aligned.dtype.kind == "f":
        if not np.isfinite(aligned).all():
            raise CaseError(f"label {path} has values that are not finite")
        whole = np.round(aligned)
        off = np.abs(aligned - whole)
        if off.max() > WHOLE_TOLERANCE:
            value = float(aligned.flat[int(off.argmax())])
            raise CaseError(f"label {path} has values like {value:.4g}, and whole label ids are wanted")
        aligned = whole
    mask = np.isin(aligned, ids)
    if not mask.any():
        found = [int(value) for value in np.unique(aligned)]
        if found == [0]:
            raise CaseError(f"label {path} is empty")
        listed = ", ".join(map(str, found[:20])) + (", …" if len(found) > 20 else "")
        raise CaseError(f"label {path} has none of the wanted ids {ids}; it has {listed}")
    return np.ascontiguousarray(mask, dtype=np.uint8)


def _check_hu(path: Path, voxels: NDArray[Any]) -> None:
    if voxels.dtype.kind == "f":
        broken = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
        if broken:
            raise CaseError(f"{path} has {broken:,} voxels that are NaN or infinite")
    low, high = float(voxels.min()), float(voxels.max())
    if low < HU_BELIEVED[0] or high > HU_BELIEVED[1]:
        raise CaseError(f"{path} has absurd values from {low:.6g} to {high:.6g}, which are no HU")
    if low == high:
        raise CaseError(f"{path} has the value {low:.6g} everywhere")


def _aligned(path: Path, voxels: NDArray[Any], own: Grid, grid: Grid) -> NDArray[Any]:
    """The label's voxels along the image's axes, if they are the image's voxels in another order."""
    to_image = np.linalg.inv(grid.affine) @ own.affine
    order = np.abs(to_image[:3, :3]).argmax(axis=0)
    if sorted(order) == [0, 1, 2]:
        flips = [to_image[order[axis], axis] < 0 for axis in range(3)]
        flipped = voxels[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        arranged = flipped.transpose(np.argsort(order))
        if arranged.shape == grid.shape and _corners_apart(own, grid) <= GRID_TOLERANCE:
            return arranged
    raise CaseError(
        f"label {path} lies on another grid than the image: {own} against {grid}, "
        f"corners up to {_corners_apart(own, grid):.3g} voxels apart (at most {GRID_TOLERANCE} is taken)"
    )


def _corners_apart(own: Grid, grid: Grid) -> float:
    """How far the farther corner of one grid is from the nearest of the other, in the image's voxels."""
    to_image = np.linalg.inv(grid.affine) @ own.affine
    theirs = _corners(own.shape) @ to_image[:3, :3].T + to_image[:3, 3]
    apart = np.linalg.norm(theirs[:, None] - _corners(grid.shape)[None], axis=-1)
    return float(max(apart.min(axis=0).max(), apart.min(axis=1).max()))


def _corners(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """The centres of the eight corner voxels, 8×3."""
    return np.array(np.meshgrid(*[(0, size - 1) for size in shape])).reshape(3, -1).T.astype(np.float64)


def _cut_off(mask: NDArray[np.uint8]) -> list[str]:
    """A warning where the organ reaches the volume's border."""
    sides = [mask.take(place, axis).any() for axis in range(3) for place in (0, -1)]
    return ["the label touches the volume's border: the organ may be cut off"] if any(sides) else []
