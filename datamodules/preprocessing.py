"""From a case's own voxels to the grid that training sees; pure functions, no random draw, no statistic of a site.

Canonical orientation → HU clipped → box around the body → spacing. The stored grid's affine is exact: a voxel's
world coordinates are those of the tissue it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import CaseError
from datamodules.grids import antialias, body_box, on_grid, reordered, stored_hu, target_grid, without_dust
from datamodules.store import HU_RANGE, CaseRecord, Shape, Spacing

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

    def unstored(
        self,
        site: str,
        native_shape: Shape,
        native_affine: NDArray[np.float64],
        case: str = "",
        patient: str = "",
        image_path: str = "",
        warnings: Sequence[str] = (),
    ) -> CaseRecord:
        """The record of a case that lies in no store: where this grid lies, and where its own voxels.

        Args:
            site: what takes the place of a site.
            native_shape: of its own voxels.
            native_affine: 4×4, own voxel to world in RAS mm.
            case: its id.
            patient: the patient's id.
            image_path: the original image.
            warnings: what was found odd.
        """
        d, h, w = self.image.shape
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return CaseRecord(
            site=site,
            case=case,
            patient=patient,
            shape=(d, h, w),
            spacing=(float(edges[0]), float(edges[1]), float(edges[2])),
            affine=self.affine.tolist(),
            native_shape=native_shape,
            native_affine=native_affine.tolist(),
            image_path=image_path,
            label_path=None,
            labels=[],
            digest="",
            fingerprint="",
            pancreas_volume_ml=0.0,
            warnings=list(warnings),
        )


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
    hu, affine = _canonical(image)
    # Fortran's order is what ITK takes as it is. What came in another is given up at once: a CT fills much memory.
    hu = reordered(hu, np.float32, "F")
    hu.clip(*HU_RANGE, out=hu)
    mask = None if label is None else _canonical(label)[0]
    affine = without_dust(affine)
    box = body_box(hu, mask, affine)
    shape, grid = target_grid(box, affine, spacing)
    if np.prod(shape, dtype=object) > MAX_VOXELS:
        raise CaseError(
            f"at {_times(spacing)} mm it would have {' × '.join(map(str, shape))} voxels: is its spacing right, or a "
            f"coarser one wanted (data.spacing)?"
        )
    antialias(hu, affine, spacing, box)
    stored = stored_hu(on_grid(hu, affine, shape, grid), HU_RANGE)
    if mask is None:
        return Canonical(stored, None, grid)
    kept = reordered(on_grid(mask, affine, shape, grid, nearest=True), np.uint8, "C")
    if not kept.any():
        raise CaseError(f"its label is so small that nothing of it is left at {_times(spacing)} mm")
    return Canonical(stored, kept, grid)


def _canonical(image: tio.Image) -> tuple[NDArray[Any], NDArray[np.float64]]:
    import torchio as tio

    image = tio.ToCanonical()(image)
    return image.data[0].numpy(), np.asarray(image.affine, dtype=np.float64)


def _times(spacing: Spacing) -> str:
    return " × ".join(f"{edge:.3g}" for edge in spacing)
