"""Whether two descriptors are of one scan: brought upon each other, do they agree everywhere?

The slices' keys tell which lie upon which; the correlation of the slices tells flips and shift; then the anatomy is
compared place by place. Two patients agree in the outline of the body, one scan agrees in a fifth of its worst
places too: the agreement is the lowest fifth of the correlations in boxes of 30 mm.

How far apart they lie (``python -m tests.benchmarks.overlap_margins``: two phantoms of each site, and the CTs of
PANSITE_TEST_DATA):

====================================================  =========
the same scan, lowest of all                          agreement
====================================================  =========
flipped along one axis or all; float and clipped      1.000
half of its slices, or 60 mm of them                  0.992
resampled to 2 mm without smoothing; 5 mm slices      0.927
cropped in each slice; all of these together          0.953
two scans, highest of 120 pairs                       0.377
the same, one of them in part or changed, 450 pairs   0.541
====================================================  =========

What is lowest is low dose: a phantom of it that is resampled to 3 mm without smoothing came down to 0.85.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from datamodules.descriptor import FIELD, FLAT, MIN_SLICES, STEP, Descriptor

SAME = 0.8
"""Agreement from which on two scans are one."""
WORST = 20.0
"""The percentile of the places that the agreement is of."""
BOX = 5
"""Edge in samples of the boxes that are compared."""
MIN_PLACES = 200
"""Boxes with something to see without which two scans are not compared."""
TRIES = 3
"""Placements that are looked at, the most likely ones."""
SLICES = 16
"""At most so many slices tell flips and shift."""

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How far two scans agree where they overlap.

    Attributes:
        score: 1 for one scan; see above.
        height: mm along the patient that they have in common.
    """

    score: float
    height: float

    @property
    def same(self) -> bool:
        """Whether they are one scan."""
        return self.score >= SAME


@dataclass(frozen=True)
class _Placement:
    """How ``b`` lies upon ``a``: reversed along which axes, shifted by how many samples."""

    score: float
    flips: tuple[int, int, int]
    shift: tuple[float, float]
    offset: int


NONE = Agreement(0.0, 0.0)


def agreement(a: Descriptor, b: Descriptor) -> Agreement:
    """How far two scans agree, in either order the same but for rounding."""
    if not (a.comparable and b.comparable):
        return NONE
    first, second = a.anatomy.astype(np.float32), b.anatomy.astype(np.float32)
    found = [_placed(first, second, direction, offset) for direction, offset in _likely(a.keys, b.keys)]
    if not found:
        return NONE
    place = max(found, key=lambda placement: placement.score)
    turned = second[:: place.flips[0], :: place.flips[1], :: place.flips[2]]
    moved, field = _moved(turned, first.shape[:2], place.shift)
    moved, offset = _along(first, moved, place.offset)
    one, other = _upon(first, moved, offset)
    return Agreement(_worst(one * field, other * field), one.shape[2] * STEP)


def _least(a: int, b: int) -> int:
    """Slices that two scans must have in common: half of the smaller one, for few of many are alike by chance."""
    return max(MIN_SLICES, -(-min(a, b) // 2))


def _likely(a: NDArray[np.float32], b: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Direction and offset of ``b``'s slices along ``a`` (a[i] meets b[i − offset]), most alike keys first."""
    found = []
    table = a @ b.T
    least = _least(len(a), len(b))
    for direction in (1, -1):
        turned = table[:, ::direction]
        for offset in range(least - len(b), len(a) - least + 1):
            along = np.diagonal(turned, -offset)
            # Few slices are alike by chance more easily.
            found.append((float(along.mean()) - 0.15 / len(along), direction, offset))
    found.sort(reverse=True)
    kept: list[tuple[int, int]] = []
    for _, direction, offset in found:
        if all(direction != other or abs(offset - place) > 1 for other, place in kept):
            kept.append((direction, offset))
        if len(kept) == TRIES:
            break
    return kept


def _placed(a: Volume, b: Volume, direction: int, offset: int) -> _Placement:
    """The flips and the shift within the slices at which most of them correlate."""
    one, other = _upon(a, b[..., ::direction], offset)
    chosen = np.unique(np.linspace(0, one.shape[2] - 1, SLICES).round().astype(int))
    one, other = one[..., chosen].transpose(2, 0, 1), other[..., chosen].transpose(2, 0, 1)
    spectrum = fft.rfft2(one, s=(FIELD, FIELD))
    scale = float(np.linalg.norm(one) * np.linalg.norm(other)) + 1e-6
    best: _Placement | None = None
    for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        turned = fft.rfft2(other[:, ::x, ::y], s=(FIELD, FIELD))
        correlation = fft.irfft2((spectrum * np.conj(turned)).sum(axis=0), s=(FIELD, FIELD))
        score = float(correlation.max()) / scale
        if best is None or score > best.score:
            best = _Placement(score, (x, y, direction), _peak(correlation), offset)
    assert best is not None
    return best


def _peak(correlation: Volume) -> tuple[float, float]:
    """Where the correlation is highest, between the samples too, as a shift of at most half the field."""
    x, y = (int(place) for place in np.unravel_index(int(correlation.argmax()), correlation.shape))
    column, row = correlation[:, y], correlation[x]
    shift = (x + _vertex(*np.roll(column, 1 - x)[:3]), y + _vertex(*np.roll(row, 1 - y)[:3]))
    half = FIELD / 2
    return (shift[0] + half) % FIELD - half, (shift[1] + half) % FIELD - half


def _vertex(before: float, at: float, after: float) -> float:
    """The top of the parabola through three neighbours, from the one in the middle."""
    bend = before - 2 * at + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _moved(volume: Volume, shape: tuple[int, ...], shift: tuple[float, float]) -> tuple[Volume, Volume]:
    """A volume's slices shifted onto slices of another shape, and 1 where they have something there, X×Y×1."""
    x, y = (np.arange(size, dtype=np.float32) - by for size, by in zip(shape, shift, strict=True))
    places = np.stack(np.meshgrid(x, y, indexing="ij"))
    spline = ndimage.spline_filter1d(ndimage.spline_filter1d(volume, axis=0), axis=1)
    slices = [
        ndimage.map_coordinates(spline[..., z], places, output=np.float32, mode="constant", prefilter=False)
        for z in range(volume.shape[2])
    ]
    inside = [(axis >= 0) & (axis <= size - 1) for axis, size in zip((x, y), volume.shape[:2], strict=True)]
    return np.stack(slices, axis=2), np.outer(*inside)[..., None].astype(np.float32)


def _along(a: Volume, b: Volume, offset: int) -> tuple[Volume, int]:
    """``b`` shifted by a part of a sample along the patient, and the offset at which it then agrees best with ``a``."""
    least = _least(a.shape[2], b.shape[2])
    near = [place for place in (offset - 1, offset, offset + 1) if _upon(a, b, place)[0].shape[2] >= least]
    scores = []
    for one, other in (_upon(a, b, place) for place in near):
        scores.append(float((one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-6)))
    best = int(np.argmax(scores))
    part = _vertex(*scores) if best == 1 and len(scores) == 3 else 0.0
    return ndimage.shift(b, (0, 0, part), mode="nearest"), near[best]


def _upon(a: Volume, b: Volume, offset: int) -> tuple[Volume, Volume]:
    """The slices that lie upon each other."""
    low, high = max(0, offset), min(a.shape[2], b.shape[2] + offset)
    return a[..., low:high], b[..., low - offset : high - offset]


def _worst(a: Volume, b: Volume) -> float:
    """The correlation in the worst boxes, of those in which either shows something; it is 0 where only one does."""
    size = tuple(min(BOX, edge) for edge in a.shape)

    def mean(volume: Volume) -> Volume:
        return np.asarray(ndimage.uniform_filter(volume, size, mode="constant"))

    first, second = mean(a), mean(b)
    own, others = mean(a * a) - first * first, mean(b * b) - second * second
    shared = mean(a * b) - first * second
    seen, both = np.maximum(own, others) > FLAT**2, np.minimum(own, others) > FLAT**2
    if np.count_nonzero(both) < MIN_PLACES:
        return 0.0
    correlation = np.where(both, shared / np.sqrt(np.maximum(own * others, 1e-6)), 0.0)
    return float(np.percentile(correlation[seen], WORST))
