"""A case as it lies on disk becomes a CT and a binary label on one grid, or a sentence that says why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datamodules.ct_evidence import not_a_ct
from datamodules.errors import CaseError
from datamodules.grids import reordered
from datamodules.layouts.site import Case, Flip, SiteConfig
from datamodules.volume_files import Grid, read_grid, read_volume, remarks_on

if TYPE_CHECKING:
    import torchio as tio

    from datamodules.label_flips import Choice

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
        label_flip: how the label's file came onto the image's grid; see :func:`read_label`.
        label_evidence: why so, where it was not the header that told.
    """

    image: tio.ScalarImage
    label: tio.LabelMap | None
    warnings: list[str]
    label_flip: Flip = "header"
    label_evidence: dict[str, Any] | None = None


def read_case(case: Case, site: SiteConfig, labelled: bool = True) -> RawCase:
    """Read and check a case.

    Args:
        case: where its files are.
        site: tells which label ids are the pancreas and whether the image must look like a CT.
        labelled: read the label; without one the case can't be used.

    Raises:
        CaseError: why the case can't be used: a fault that its layout knows of, a file missing or damaged, not a 3-D
            CT in HU, a label on another grid, without the wanted ids, empty, or of which it is doubtful how it lies.
    """
    import torch
    import torchio as tio

    if case.fault is not None:
        raise CaseError(case.fault)
    voxels, grid = read_volume(case.image)
    _check_hu(case.image, voxels)
    if site.check_ct and (reason := not_a_ct(voxels)):
        raise CaseError(f"{case.image}: {reason}")
    image = tio.ScalarImage(tensor=torch.from_numpy(reordered(voxels, np.float32, "C"))[None], affine=grid.affine)
    if not labelled:
        return RawCase(image, None, remarks_on(case.image))
    if case.label is None:
        raise CaseError("it has no label")
    flip, evidence = case.label_flip, None
    if flip == "evidence":
        choice = _choice(case.label, site.labels, voxels, grid)
        flip, evidence = choice.flip, _described(choice, case.label, site.labels, grid)
    mask = read_label(case.label, site.labels, grid, flip, case.more_labels)
    label = tio.LabelMap(tensor=torch.from_numpy(mask)[None], affine=grid.affine)
    return RawCase(image, label, [*remarks_on(case.image), *_cut_off(mask)], flip, evidence)


def read_label(
    path: Path, ids: list[int], grid: Grid, flip: Flip = "header", more: Sequence[Path] = ()
) -> NDArray[np.uint8]:
    """The pancreas on the image's grid, whatever orientation the label is stored in.

    Args:
        path: a NIfTI file.
        ids: the label ids that are merged.
        grid: the image's grid, which the label's voxels must fill.
        flip: ``header`` to believe the file's header; else its voxels are in the image's order, with these axes
            reversed.
        more: further files whose ids are united with the first one's; they may have none.

    Returns:
        uint8 of the grid's shape, 0 or 1.

    Raises:
        CaseError: the label lies on another grid, is not of whole numbers, or has none of the ids.
    """
    mask = _is_any(first := read_ids(path, grid, flip), ids)
    for other in more:
        mask |= _is_any(read_ids(other, grid, flip), ids)
    if not mask.any():
        found = [int(value) for value in np.unique(first)]
        if found == [0]:
            raise CaseError(f"label {path} is empty")
        listed = ", ".join(map(str, found[:20])) + (", …" if len(found) > 20 else "")
        raise CaseError(f"label {path} has none of the wanted ids {ids}; it has {listed}: set 'labels' of the site")
    return reordered(mask, np.uint8, "C")


def _is_any(values: NDArray[Any], ids: list[int]) -> NDArray[np.bool_]:
    """Where values are one of a few ids: comparing is a hundred times faster than ``np.isin``'s table."""
    found = np.zeros_like(values, dtype=np.bool_)
    for wanted in ids:
        found |= values == wanted
    return found


def read_ids(path: Path, grid: Grid, flip: Flip = "header") -> NDArray[Any]:
    """Label ids on the image's grid, as whole numbers of whatever type the file has.

    Args:
        path: a NIfTI file.
        grid: the image's grid, which the label's voxels must fill.
        flip: as in :func:`read_label`.

    Raises:
        CaseError: the label lies on another grid, or is not of whole numbers.
    """
    voxels, own = read_volume(path, believed=flip == "header")
    aligned = _aligned(path, voxels, own, grid) if flip == "header" else _in_image_order(path, voxels, grid, flip)
    if aligned.dtype.kind != "f":
        return aligned
    if not np.isfinite(aligned).all():
        raise CaseError(f"label {path} has values that are not finite")
    whole = np.round(aligned)
    off = np.abs(aligned - whole)
    if off.max() > WHOLE_TOLERANCE:
        value = float(aligned.flat[int(off.argmax())])
        raise CaseError(f"label {path} has values like {value:.4g}, and whole label ids are wanted")
    return whole


def _choice(path: Path, ids: list[int], hu: NDArray[Any], grid: Grid) -> Choice:
    """The flip of a label for which the HU speak.

    Raises:
        CaseError: they do not, or not clearly.
    """
    from datamodules.label_flips import judge

    choice = judge(read_label(path, ids, grid, "none") > 0, hu, grid.spacing)
    if choice.doubtful:
        raise CaseError(
            f"how label {path} lies on its image is doubtful (evidence by flip: {choice}): look at it, and name its "
            f"flip in 'label_flip_of' of the site"
        )
    return choice


def _described(choice: Choice, path: Path, ids: list[int], grid: Grid) -> dict[str, Any]:
    """The evidence as it goes into the record, and whether the label's header says the same."""
    try:
        agrees = bool(np.array_equal(read_label(path, ids, grid), read_label(path, ids, grid, choice.flip)))
    except CaseError:
        agrees = False
    scores = {flip: round(score, 3) for flip, score in choice.scores.items()}
    return {"flip": choice.flip, "margin": round(choice.margin, 3), "scores": scores, "header_agrees": agrees}


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


def check_grid(path: Path, grid: Grid) -> None:
    """Look whether a label lies on the image's grid, in whatever orientation; its voxels are not read.

    Raises:
        CaseError: the file is missing or damaged, or lies on another grid.
    """
    _turn(path, read_grid(path), grid)


def _aligned(path: Path, voxels: NDArray[Any], own: Grid, grid: Grid) -> NDArray[Any]:
    """The label's voxels along the image's axes, if they are the image's voxels in another order."""
    flips, order = _turn(path, own, grid)
    return voxels[flips].transpose(order)


def _turn(path: Path, own: Grid, grid: Grid) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """How the label's axes are to be reversed, and then to be ordered, so that they are the image's."""
    to_image = np.linalg.inv(grid.affine) @ own.affine
    axes = np.abs(to_image[:3, :3]).argmax(axis=0)
    if sorted(axes) == [0, 1, 2]:
        flips = tuple(slice(None, None, -1 if to_image[axes[axis], axis] < 0 else 1) for axis in range(3))
        order = tuple(int(axis) for axis in np.argsort(axes))
        shape = tuple(own.shape[axis] for axis in order)
        if shape == grid.shape and _corners_apart(own, grid) <= GRID_TOLERANCE:
            return flips, order
    raise CaseError(
        f"label {path} lies on another grid than the image: {own} against {grid}, "
        f"corners up to {_corners_apart(own, grid):.3g} voxels apart (at most {GRID_TOLERANCE} is taken): "
        f"bring it onto the image's grid"
    )


def _in_image_order(path: Path, voxels: NDArray[Any], grid: Grid, flip: Flip) -> NDArray[Any]:
    from datamodules.label_flips import flipped

    if voxels.shape != grid.shape:
        raise CaseError(
            f"label {path} has {' × '.join(map(str, voxels.shape))} voxels and its image "
            f"{' × '.join(map(str, grid.shape))}, so that no flip brings them together"
        )
    return flipped(voxels, flip)


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
