"""Another acquisition of the same patient, simulated: noise, blur, slice thickness, HU shift, a close crop.

The label stays what and where it is. Draws are keyed by (seed, case, factor, purpose) and not by the level, so that
a level is that much more of the same. At level 0 the image is the very one that was given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray

from datamodules.acquisition import THICK
from datamodules.randomness import key_seed, numpy_generator
from experiments.ladder.plan import SEED, Factor, Rung

VERSION = 1
"""Counts changes that alter a simulated voxel: what was measured before is then measured anew."""
NOISE_HU = 60.0
"""Deviation of the added noise in each native voxel at level 1."""
BLUR_MM = 3.0
"""Standard deviation of the Gaussian at level 1."""
SHIFT_HU = 60.0
"""What all HU are shifted by at level 1, up in some cases and down in others."""
MARGIN_MM = 15.0
"""What a crop leaves around the organ."""
LEAST_CROP = 0.5
"""A face of the volume moves at level 1 by this share to all of its way to the organ's margin."""

FACTORS = (
    Factor("noise", "as scanned", f"noise of {NOISE_HU:g} HU more"),
    Factor("blur", "as scanned", f"blurred by a Gaussian of {BLUR_MM:g} mm (sd)"),
    Factor("slice_thickness", "as scanned", f"slices of {THICK:g} mm"),
    Factor("hu_shift", "as scanned", f"all HU up or down by {SHIFT_HU:g}, case by case"),
    Factor("crop", "as scanned", f"cropped off centre, the organ kept with {MARGIN_MM:g} mm around it"),
)

Array = NDArray[np.float64]


def simulate(image: tio.ScalarImage, label: NDArray[np.uint8], case: str, rung: Rung) -> tio.ScalarImage:
    """The image as another acquisition would have given it.

    Args:
        image: float32 HU, 1×W×H×D in any orientation.
        label: W×H×D on its grid, which a crop keeps whole; not altered.
        case: its key in every draw.
        rung: the factor and how far it goes.

    Returns:
        The image itself at level 0, else another one, on a grid of its own where slices got thicker or the volume was
        cropped; its affine places every voxel where its tissue is.
    """
    if rung.level == 0:
        return image
    # TorchIO draws for each transform whether it is to be applied at all.
    with torch.random.fork_rng(devices=[]):
        return _ACQUISITIONS[rung.factor](image, label, case, rung.level)


def _noise(image: tio.ScalarImage, label: NDArray[np.uint8], case: str, level: float) -> tio.ScalarImage:
    seed = key_seed(SEED, case, "noise", "grain") >> 31  # what torch takes
    return tio.Noise(mean=0.0, std=NOISE_HU * level, seed=seed)(image)


def _blur(image: tio.ScalarImage, label: NDArray[np.uint8], case: str, level: float) -> tio.ScalarImage:
    return tio.Blur(std=(BLUR_MM * level,) * 3)(image)


def _hu_shift(image: tio.ScalarImage, label: NDArray[np.uint8], case: str, level: float) -> tio.ScalarImage:
    sign = 1.0 if numpy_generator(SEED, case, "hu_shift", "direction").random() < 0.5 else -1.0
    return tio.Lambda(lambda hu: hu + sign * SHIFT_HU * level)(image)


def _crop(image: tio.ScalarImage, label: NDArray[np.uint8], case: str, level: float) -> tio.ScalarImage:
    shares = numpy_generator(SEED, case, "crop", "faces").uniform(LEAST_CROP, 1.0, size=(3, 2))
    cut = []
    for axis, edge in enumerate(image.spacing):
        held = np.flatnonzero(label.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = MARGIN_MM / edge
        room = (held[0] - margin, label.shape[axis] - 1 - held[-1] - margin)
        cut += [int(max(0.0, way) * share * level) for way, share in zip(room, shares[axis], strict=True)]
    return tio.Crop(tuple(cut))(image)


def _slice_thickness(image: tio.ScalarImage, label: NDArray[np.uint8], case: str, level: float) -> tio.ScalarImage:
    """Partial volume: each thick slice is the mean of what it covers. (TorchIO's leaves slices out.)"""
    axis = int(np.abs(image.affine[2, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)).argmax())
    thin, count = image.spacing[axis], image.spatial_shape[axis]
    wanted = thin + level * max(0.0, THICK - thin)
    weights = slab_weights(count, max(1, round(count * thin / wanted)))
    thick = torch.from_numpy(weights.astype(np.float32))
    voxels = torch.movedim(torch.tensordot(thick, image.data[0], dims=([1], [axis])), 0, axis)
    affine = np.array(image.affine, dtype=np.float64)
    widening = count / len(weights)
    affine[:3, 3] += affine[:3, axis] * (widening - 1) / 2
    affine[:3, axis] *= widening
    return tio.ScalarImage(tensor=voxels[None].contiguous(), affine=affine)


def slab_weights(thin: int, thick: int) -> Array:
    """How much of each thin slice is in each of the thick ones that fill the same length, thick×thin.

    Rows sum to 1 and columns to ``thick / thin``, so that the volume's mean stays what it is.
    """
    edges = np.linspace(0, thin, thick + 1)
    places = np.arange(thin)
    overlap = np.minimum(edges[1:, None], places + 1) - np.maximum(edges[:-1, None], places)
    weights: Array = np.clip(overlap, 0, None) * (thick / thin)
    return weights


_ACQUISITIONS: dict[str, Callable[[tio.ScalarImage, NDArray[np.uint8], str, float], tio.ScalarImage]] = {
    "noise": _noise,
    "blur": _blur,
    "slice_thickness": _slice_thickness,
    "hu_shift": _hu_shift,
    "crop": _crop,
}
