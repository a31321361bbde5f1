"""What a scan looks like, small enough to hold it against thousands: its coarse anatomy, and a key of each slice.

A header is believed for which axis runs along the patient and for the spacing, not for which end is which. HU are
clipped to soft tissue, brought to one point spread and sampled every :data:`STEP` mm from the middle of the volume;
what is wider than an organ is taken away within each slice. So the same tissue gives the same numbers whatever the
voxels, their type, and the slices above and below. A slice's key is its spectrum, which no shift or flip alters.
:mod:`datamodules.same_scan` compares two of them, and says how far scans lie apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.errors import NPZ_ERRORS, UsageError

VERSION = 1
"""Counts changes of what is computed here: a stored descriptor of another version is computed anew."""
STEP = 6.0
"""Mm between samples."""
SPREAD = 5.0
"""Standard deviation in mm of the point spread, the voxels' own included."""
WIDE = 20.0
"""Standard deviation in mm of what is taken away as too wide, within a slice."""
HU = (-100.0, 200.0)
"""What is beyond is fat, air or bone: so a scan that was clipped to a soft-tissue window is known again."""
SCALE = 10.0
"""Stored steps to the root of a HU: roots, so that faint detail weighs beside the outline of the body."""
FIELD = 96
"""Samples along a slice on which its spectrum is taken."""
FREQUENCIES, BAND = 24, 3
"""Periods to the field up to which a key looks, and how many make one of its entries."""
FLAT = 5.0
"""Standard deviation in stored steps below which there is nothing to see."""
MIN_SLICES = 6
"""Samples along the patient, 36 mm, below which scans are not compared."""
ALIKE = 0.99
"""Mean likeness of slices that lie :data:`MIN_SLICES` apart, from which on a volume is no patient: a test object."""


@dataclass(frozen=True)
class Descriptor:
    """A scan's coarse anatomy.

    Attributes:
        anatomy: int8 X×Y×Z (across, front-back and along the patient, from either end) every :data:`STEP` mm: signed
            roots of band-passed HU times :data:`SCALE`.
        keys: float32 Z×K of length 1; 0 where a slice shows nothing.
    """

    anatomy: NDArray[np.int8]
    keys: NDArray[np.float32]

    @property
    def comparable(self) -> bool:
        """Whether there is enough to see: slices enough, and not all alike."""
        count = len(self.keys)
        apart = min(MIN_SLICES, count - 1)
        if count < MIN_SLICES or np.count_nonzero(self.keys.any(axis=1)) < MIN_SLICES:
            return False
        likeness = (self.keys[apart:] * self.keys[:-apart]).sum(axis=1)
        return float(likeness.mean()) < ALIKE

    def write(self, file: IO[bytes]) -> None:
        """Write it as an npz: ``anatomy`` and, half as precise, ``keys``."""
        np.savez_compressed(file, anatomy=self.anatomy, keys=self.keys.astype(np.float16))

    @classmethod
    def read(cls, path: Path) -> Descriptor:
        """What :meth:`write` has written.

        Raises:
            UsageError: the file is damaged.
        """
        anatomy, keys = _read(path, "anatomy", "keys")
        return cls(anatomy, keys.astype(np.float32))


def read_keys(path: Path) -> NDArray[np.float32]:
    """The keys alone, float32 Z×K; errors as in :meth:`Descriptor.read`."""
    (keys,) = _read(path, "keys")
    return keys.astype(np.float32)


def _read(path: Path, *names: str) -> list[NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except NPZ_ERRORS as error:
        raise UsageError(f"{path}: can't be read ({error}); remove it, and `pansite prepare` makes it anew.") from error


def describe(voxels: NDArray[Any], edges: NDArray[np.float64]) -> Descriptor:
    """The descriptor of a CT.

    Args:
        voxels: HU, finite, X×Y×Z: across, front-back and along the patient, from either end.
        edges: mm of a voxel along each.
    """
    coarse, edges = _in_blocks(voxels, edges)
    sigma = np.sqrt(np.maximum(SPREAD**2 - edges**2 / 12, 0)) / edges
    smooth = ndimage.gaussian_filter(coarse, sigma, mode="nearest", truncate=3.0)
    for axis in range(3):
        smooth = _sampled(smooth, axis, float(edges[axis]))
    wide = ndimage.gaussian_filter(smooth, (WIDE / STEP, WIDE / STEP, 0), mode="nearest", truncate=3.0)
    band = smooth - wide
    anatomy = np.round(np.sign(band) * np.sqrt(np.abs(band)) * SCALE).clip(-127, 127).astype(np.int8)
    return Descriptor(anatomy, _keys(anatomy))


def _in_blocks(voxels: NDArray[Any], edges: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Means of clipped HU over blocks of at most half a step, slice by slice for the memory's sake."""
    shape = np.array(voxels.shape)
    factor = np.minimum(np.maximum(1, np.floor(STEP / 2 / edges)).astype(int), shape)
    size = shape // factor
    start = (shape - size * factor) // 2  # what is left over is shared by both ends: the middle stays where it is
    coarse = np.empty(size, np.float32)
    x, y = (slice(start[axis], start[axis] + size[axis] * factor[axis]) for axis in (0, 1))
    for z in range(size[2]):
        first = start[2] + z * factor[2]
        slab = np.asarray(voxels[x, y, first : first + factor[2]], np.float32).clip(*HU)
        blocks = slab.reshape(size[0], factor[0], size[1], factor[1], factor[2])
        coarse[..., z] = blocks.mean(axis=(1, 3, 4))
    return coarse, edges * factor


def _sampled(volume: NDArray[np.float32], axis: int, edge: float) -> NDArray[np.float32]:
    """Linear samples along an axis, every :data:`STEP` mm about its middle."""
    size = volume.shape[axis]
    count = max(1, int(size * edge / STEP + 1e-6))
    places = ((size - 1) / 2 + (np.arange(count) - (count - 1) / 2) * STEP / edge).clip(0, size - 1)
    low = np.minimum(places.astype(int), max(0, size - 2))
    weight = (places - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
    high = np.minimum(low + 1, size - 1)
    return np.asarray(volume.take(low, axis) * (1 - weight) + volume.take(high, axis) * weight)


def _keys(anatomy: NDArray[np.int8]) -> NDArray[np.float32]:
    """Of each slice, the amplitude in cells of |frequency| across and front-back, both signs together."""
    slices = anatomy.transpose(2, 0, 1).astype(np.float32)
    power = np.abs(np.fft.fft2(slices, s=(FIELD, FIELD))) ** 2
    cut = np.arange(FREQUENCIES)
    both = power[:, cut][:, :, cut] + power[:, -cut % FIELD][:, :, cut]
    cells = FREQUENCIES // BAND
    sums = both.reshape(-1, cells, BAND, cells, BAND).sum(axis=(2, 4)).reshape(len(slices), -1)[:, 1:]
    keys = np.sqrt(sums)
    length = np.linalg.norm(keys, axis=1, keepdims=True)
    seen = (np.sqrt((slices**2).mean(axis=(1, 2))) >= FLAT)[:, None] & (length > 0)
    return np.where(seen, keys / np.maximum(length, 1e-9), 0).astype(np.float32)
