"""What passes from the room of the data to the room that learns.

Axes: B sample, D H W the voxels of a volume in RAS order (left-right, posterior-anterior, inferior-superior).
Named tuples of tensors, so that Lightning moves them to a device and torch pins them as they are.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

OUTSIDE_AXIS = -1.0
"""Value of :attr:`PatchBatch.axis` outside the pancreas."""


class PatchBatch(NamedTuple):
    """Patches of the source site for training."""

    image: Tensor
    """Float B×1×D×H×W in [0, 1]: the HU window of the source."""
    label: Tensor
    """Float B×1×D×H×W, 0 or 1: the pancreas."""
    distance: Tensor
    """Float B×1×D×H×W: signed distance to the pancreas' surface in mm, negative inside, clipped at ±100."""
    axis: Tensor
    """Float B×1×D×H×W: a in [0, 1] from head to tail inside the pancreas, :data:`OUTSIDE_AXIS` outside."""
    key: Tensor
    """Int64 B×2: (epoch, index) of each sample; with the seed and a purpose the key of its random draws.

    On the CPU, so that reading a key does not wait for the device.
    """
    case: list[str]
    """B case ids."""
    second: Tensor | None = None
    """Float B×1×D×H×W in [0, 1]: the same patches in another appearance, where an augmentation makes two views."""


class VolumeBatch(NamedTuple):
    """One whole volume on the training grid, for validation, evaluation and prediction."""

    image: Tensor
    """Float 1×1×D×H×W in [0, 1]."""
    label: Tensor
    """Float 1×1×D×H×W, 0 or 1, on the same grid (all 0 where there is no label)."""
    site: str
    case: str
    folder: str
    """The case's folder in the store: its record tells the way back to the native grid."""
