"""Head, body and tail on a case's own voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from datamodules.store import AXIS_OUTSIDE, StoredCase
from datamodules.structure import third


def native_thirds(case: StoredCase, reference: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The third of the organ that each voxel of the native label belongs to.

    The organ's axis is known on the stored grid alone (:func:`datamodules.structure.axis_coordinate`, along
    ``data.structure.axis``). A native voxel takes the value of the stored voxel that its centre lies in; where the
    stored label, resampled, ends earlier, that of the stored pancreas' nearest voxel.

    Args:
        case: a labelled case.
        reference: its label on the native grid, not 0 in the pancreas.

    Returns:
        int32 N, in C order of the N voxels of the pancreas: 0 head, 1 body, 2 tail.
    """
    record, axis = case.record, case.axis()
    affine = np.array(record.affine)
    to_stored = np.linalg.inv(affine) @ np.array(record.native_affine)
    places = np.argwhere(reference) @ to_stored[:3, :3].T + to_stored[:3, 3]
    voxels = np.round(places).astype(np.intp).clip(0, np.array(axis.shape) - 1)
    along = axis[tuple(voxels.T)]
    if (off := along == AXIS_OUTSIDE).any():
        stored = np.argwhere(axis != AXIS_OUTSIDE)
        tree = cKDTree(stored @ affine[:3, :3].T)
        nearest = tree.query(places[off] @ affine[:3, :3].T)[1]
        along[off] = axis[tuple(stored[nearest].T)]
    return third(along)
