"""Distances between the surfaces of two masks: NSD, HD95, ASSD.

A surface is the set of voxel corners at which a mask changes, the volume's border counting as a change, each weighed by
the area of the surface that goes through it: as DeepMind's ``surface-distance`` has it (Nikolov et al., *Clinically
applicable segmentation of head and neck anatomy for radiotherapy*, JMIR 2021), with MONAI's copy of its table of areas.
The tests hold all three to that library.

**Surface elements or voxels.** Others, MONAI's ``compute_hausdorff_distance`` and ``compute_average_surface_distance``
among them, take the centres of the mask's outermost voxels instead, each of equal weight. Any changing corner lies
half a voxel's diagonal from the centre of such a voxel and the other way round, so each surface moves by at most that,
and the *maximum* distances (Hausdorff) of both conventions differ by at most one diagonal, ‖spacing‖. Percentiles and
means have no such bound, for area weighs otherwise than a count of voxels: a mask with a far spur may have its HD95 on
either side of it. So HD95 and ASSD are comparable between tools of the same convention alone. NSD by MONAI is the same
with ``use_subvoxels=True``, and another number without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.metrics.utils import get_code_to_measure_table
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Reals = NDArray[np.float64]
Box = tuple[slice, slice, slice]

DUST_MM = 1e-6
"""A distance equals the tolerance if rounding alone tells them apart: 5 · 0.4 mm is 2 mm, wherever the surface lies."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Two surfaces, and how far each one's elements are from the other.

    Attributes:
        to_reference: N, of the prediction's elements, mm.
        to_prediction: M, of the reference's elements, mm.
        prediction_areas: N, mm².
        reference_areas: M, mm².
    """

    to_reference: Reals
    to_prediction: Reals
    prediction_areas: Reals
    reference_areas: Reals

    @classmethod
    def between(cls, predicted: Mask, present: Mask, spacing: Sequence[float]) -> SurfaceDistances:
        """Of two D×H×W masks that are not empty; ``spacing`` in mm along D, H, W."""
        at_p, areas_p = _surface(predicted, spacing)
        at_r, areas_r = _surface(present, spacing)
        to_r, to_p = KDTree(at_r, leafsize=32).query(at_p)[0], KDTree(at_p, leafsize=32).query(at_r)[0]
        return cls(to_r, to_p, areas_p, areas_r)

    def nsd(self, tolerance: float) -> float:
        """Share of both surfaces' area that lies within ``tolerance`` mm of the other surface, in [0, 1]."""
        reach = tolerance + DUST_MM
        within = (
            self.prediction_areas[self.to_reference <= reach].sum()
            + self.reference_areas[self.to_prediction <= reach].sum()
        )
        return min(1.0, float(within / self._total()))

    def hausdorff(self, share: float) -> float:
        """The larger of the two distances, in mm, within which ``share`` of a surface lies; of 1 the maximum."""
        return max(
            _percentile(self.to_reference, self.prediction_areas, share),
            _percentile(self.to_prediction, self.reference_areas, share),
        )

    def mean(self) -> float:
        """Mean distance over the area of both surfaces, mm."""
        weighed = (self.to_reference * self.prediction_areas).sum() + (self.to_prediction * self.reference_areas).sum()
        return float(weighed / self._total())

    def _total(self) -> float:
        return float(self.prediction_areas.sum() + self.reference_areas.sum())


def bounding_box(mask: Mask, margin: Sequence[int] = (0, 0, 0)) -> Box:
    """The box that holds all of a mask, which is not empty, and some voxels around it as far as the volume goes."""
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    d, h, w = (
        slice(max(0, int(span[0]) - more), int(span[-1]) + 1 + more) for span, more in zip(spans, margin, strict=True)
    )
    return d, h, w


def _surface(mask: Mask, spacing: Sequence[float]) -> tuple[Reals, Reals]:
    """The voxel corners at which a mask changes: N×3 positions in mm, and the N areas in mm² of the surface there.

    MONAI's own functions hold several float copies of the box around *both* masks: one stray voxel in a far corner
    of a whole CT costs them 7 GiB. Codes in one byte a voxel, and points from there on, do with a twentieth.
    """
    table, kernel = get_code_to_measure_table(tuple(float(s) for s in spacing), device="cpu")
    box = bounding_box(mask)
    padded = np.pad(mask[box].view(np.uint8), 1)
    d, h, w = (n - 1 for n in padded.shape)
    code = np.zeros((d, h, w), np.uint8)
    for (i, j, k), bit in np.ndenumerate(kernel[0, 0].numpy().astype(np.uint8)):
        code += padded[i : i + d, j : j + h, k : k + w] * bit
    index = np.argwhere((code != 0) & (code != 255))
    first = np.array([span.start for span in box])
    areas: Reals = table.numpy().astype(np.float64)[code[tuple(index.T)]]
    return (index + first) * np.asarray(spacing, np.float64), areas


def _percentile(distances: Reals, areas: Reals, share: float) -> float:
    """The distance within which ``share`` of the surface's area lies."""
    order = np.argsort(distances, kind="stable")
    reached = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(int(np.searchsorted(reached, share)), len(order) - 1)])
