"""From a whole volume to a probability map, by windows that slide, blended by a Gaussian; and from there to a mask.

D H W the voxels of a volume on the training grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from datamodules.grids import larger_pieces

THRESHOLD = 0.5
"""Above which a voxel is pancreas."""
WINDOWS = 2
"""Windows in one pass: a batch of one falls to a slow convolution on CPUs."""
SPATIAL = (2, 3, 4)


@dataclass(frozen=True)
class InferenceSettings:
    """How a volume is predicted.

    Attributes:
        overlap: of neighbouring windows, as a share of the window, in [0, 1).
        flips: average over the eight mirrored inputs.
        smallest_piece: pieces of the mask under this share of its largest piece are left out.
    """

    overlap: float = 0.5
    flips: bool = False
    smallest_piece: float = 0.0


def predict_probability(
    network: Callable[[Tensor], Tensor], image: Tensor, window: Sequence[int], settings: InferenceSettings
) -> Tensor:
    """Probability of pancreas at every voxel.

    Args:
        network: N×1×d×h×w windows to logits of the same shape.
        image: 1×1×D×H×W in [0, 1]; along an axis shorter than the window it is padded with 0.
        window: d, h, w, the size of a training patch.
        settings: overlap and flips.

    Returns:
        Float32 1×1×D×H×W in [0, 1], on the image's device.
    """

    def probability(windows: Tensor) -> Tensor:
        return network(windows).float().sigmoid()

    def slid(volume: Tensor) -> Tensor:
        found: Tensor = sliding_window_inference(
            volume, tuple(window), WINDOWS, probability, overlap=settings.overlap, mode="gaussian"
        )
        return found

    with torch.inference_mode():
        if not settings.flips:
            return slid(image)
        total = torch.zeros_like(image, dtype=torch.float32)
        flips = [axes for n in range(4) for axes in combinations(SPATIAL, n)]
        for axes in flips:
            total += slid(image.flip(axes)).flip(axes)
        return total / len(flips)


def mask_of(probability: NDArray[np.float32], smallest_piece: float = 0.0) -> NDArray[np.bool_]:
    """The voxels that are pancreas.

    Args:
        probability: D×H×W in [0, 1].
        smallest_piece: pieces under this share of the largest one are left out, in [0, 1].
    """
    return larger_pieces(probability > THRESHOLD, smallest_piece)
