"""What tells one scan from another by its voxels alone."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digest(*parts: NDArray[Any] | None) -> str:
    """SHA-256 over arrays: their shapes and their values as little-endian float32, whatever type they have.

    Enters the identity of a run: another voxel, label or affine is another source.

    Args:
        parts: arrays; None stands for one that is not there, and is told from every array.
    """
    total = hashlib.sha256()
    for part in parts:
        if part is None:
            total.update(b"none")
            continue
        total.update(repr(part.shape).encode())
        for plane in part:
            total.update(np.ascontiguousarray(plane, dtype="<f4").tobytes())
    return total.hexdigest()


def fingerprint(voxels: NDArray[Any]) -> str:
    """A hash of a CT's voxels, D×H×W, that is the same however the volume is turned.

    The volume is brought into an order of axes and directions that its own values tell (the profile of sums along
    each axis), so no header is believed. It survives reorientation, flips and swapped axes, told by the header
    or not, changed affines, saving anew, compression, and integer or float voxels (they are rounded). It does
    not survive cropping, resampling, clipping, or a change of the HU scale.

    Args:
        voxels: HU, finite.
    """
    whole = np.empty(voxels.shape, dtype=np.int16)
    for plane, rounded in zip(voxels, whole, strict=True):
        rounded[...] = np.round(np.asarray(plane, dtype=np.float32)).clip(-32768, 32767)
    profiles = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        profile = whole.sum(axis=others, dtype=np.int64).tolist()
        if profile[::-1] < profile:
            whole, profile = np.flip(whole, axis), profile[::-1]
        profiles.append((len(profile), profile))
    ordered = whole.transpose(sorted(range(3), key=lambda axis: profiles[axis]))
    total = hashlib.sha256(repr(ordered.shape).encode())
    for plane in ordered:
        total.update(np.ascontiguousarray(plane, dtype="<i2").tobytes())
    return f"voxels-1:{total.hexdigest()}"
