"""What one scores by knowing where the pancreas usually lies, and nothing of the image but the body's extent.

A segmentation that does not clearly beat this has not looked at the organ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.store import StoredCase

Array = NDArray[np.float64]

TEMPLATE = (64, 64, 64)
"""Cells of the body's bounding box along D, H and W that the frequencies are counted in."""
SKIN_HU = -300.0
"""What is denser than this is body, or table: a row or column needs `SHARE` of such voxels to be counted."""
SHARE = 0.02
THRESHOLDS = np.linspace(0.05, 0.95, 37)


@dataclass(frozen=True)
class LocationPrior:
    """How often each place of the body is pancreas.

    Attributes:
        frequency: share of the training cases, in coordinates of the body's bounding box, of shape `TEMPLATE`.
        threshold: from which frequency on a place is taken for pancreas: the best one on the training cases.
    """

    frequency: Array
    threshold: float

    @classmethod
    def fit(cls, cases: Sequence[StoredCase]) -> LocationPrior:
        """Count over labelled cases of the source's training split.

        Raises:
            ValueError: there is no case.
        """
        if not cases:
            raise ValueError("a location prior needs at least one case")
        boxes = [body_box(case.image()) for case in cases]
        labels = [case.label() > 0 for case in cases]
        frequency = np.zeros(TEMPLATE)
        for label, box in zip(labels, boxes, strict=True):
            cells = [_centres(n, *ends) for n, ends in zip(TEMPLATE, box, strict=True)]
            frequency += _linear(label.astype(np.float64), cells)
        frequency /= len(cases)
        scores = np.zeros(len(THRESHOLDS))
        for label, box in zip(labels, boxes, strict=True):
            expected = _on_grid(frequency, label.shape, box)
            scores += [dice(expected >= threshold, label) for threshold in THRESHOLDS]
        return cls(frequency, float(THRESHOLDS[int(np.argmax(scores))]))

    def predict(self, case: StoredCase) -> NDArray[np.bool_]:
        """Where a case's pancreas usually would be, bool D×H×W on its stored grid."""
        image = case.image()
        return np.asarray(_on_grid(self.frequency, image.shape, body_box(image)) >= self.threshold)

    def dice(self, case: StoredCase) -> float:
        """Dice of :meth:`predict` on a labelled case, 0 to 1."""
        return dice(self.predict(case), case.label() > 0)


def body_box(image: NDArray[np.int16]) -> tuple[tuple[float, float], ...]:
    """First voxel of the body and the one after its last, along D, H and W; the whole volume if there is none."""
    body = image > SKIN_HU
    box = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        found = np.flatnonzero(body.mean(axis=others) > SHARE)
        box.append((float(found[0]), float(found[-1] + 1)) if len(found) else (0.0, float(image.shape[axis])))
    return tuple(box)


def dice(prediction: NDArray[np.bool_], label: NDArray[np.bool_]) -> float:
    """Dice of two masks; 1 where both are empty."""
    total = int(prediction.sum()) + int(label.sum())
    return 2.0 * int((prediction & label).sum()) / total if total else 1.0


def _centres(count: int, low: float, high: float) -> Array:
    """The centres of ``count`` equal cells between two voxel borders, in voxels."""
    return low + (np.arange(count, dtype=np.float64) + 0.5) / count * (high - low) - 0.5


def _on_grid(frequency: Array, shape: tuple[int, ...], box: tuple[tuple[float, float], ...]) -> Array:
    """The frequency at each voxel of a volume; 0 outside its body's box."""
    places: list[Array] = []
    inside: list[NDArray[np.bool_]] = []
    for n, size, (low, high) in zip(TEMPLATE, shape, box, strict=True):
        share: Array = (np.arange(size, dtype=np.float64) + 0.5 - low) / (high - low)
        places.append(share * n - 0.5)
        inside.append((share >= 0) & (share <= 1))
    expected = _linear(frequency, places)
    within = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    return np.where(within, expected, 0.0)


def _linear(volume: Array, places: Sequence[Array]) -> Array:
    """Trilinear interpolation at the product of three lists of positions in voxels, clamped at the border."""
    for axis, place in enumerate(places):
        at = np.clip(place, 0, volume.shape[axis] - 1)
        first = np.minimum(at.astype(int), max(volume.shape[axis] - 2, 0))
        second = np.minimum(first + 1, volume.shape[axis] - 1)
        weight = (at - first).reshape([-1 if i == axis else 1 for i in range(3)])
        volume = volume.take(first, axis) * (1 - weight) + volume.take(second, axis) * weight
    return volume
