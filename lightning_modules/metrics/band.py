"""Agreement where it is hard: near the reference's surface."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from lightning_modules.metrics.protocol import BAND_MM
from lightning_modules.metrics.surfaces import Mask, bounding_box


def band_dice(predicted: Mask, present: Mask, spacing: Sequence[float], width: float = BAND_MM) -> float:
    """Dice of the voxels in a band B about the reference's surface: 2|P∩R∩B| / (|P∩B| + |R∩B|).

    The organ's core, which any method finds, does not make up for its outline. B, a trimap (Kohli, Ladický and Torr,
    *Robust higher order potentials for enforcing label consistency*, IJCV 2009), holds the voxels whose centre is at
    most ``width`` mm from the centre of the nearest voxel on the other side of the surface; what lies beyond the volume
    is outside. Along an axis with slices thicker than ``width`` one voxel counts as ``width``, so that voxels that face
    each other across the surface are always in B. Boundary IoU (Cheng et al., CVPR 2021) takes a band of each mask
    instead; here it is the reference's alone, the same for all methods. What is predicted far from the organ is not in
    it: precision and HD95 tell of that.

    Args:
        predicted: P, D×H×W.
        present: R, D×H×W, not empty.
        spacing: mm along D, H, W.
        width: mm on either side of the surface.

    Returns:
        In [0, 1].
    """
    edges = [min(float(edge), width) for edge in spacing]
    box = bounding_box(present, [math.ceil(width / edge) for edge in edges])
    inside, found = present[box], predicted[box]
    inward = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=edges)[1:-1, 1:-1, 1:-1]
    outward = ndimage.distance_transform_edt(~inside, sampling=edges)
    band = np.where(inside, inward, outward) <= width * (1 + 1e-9)
    hit = int((found & inside & band).sum())
    return 2 * hit / (int((found & band).sum()) + int((inside & band).sum()))
