"""Patches with an ellipsoid for a pancreas, made in memory."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from datamodules.batch import OUTSIDE_AXIS, PatchBatch


def ellipsoid_batch(
    samples: int = 2, size: int = 32, spacing: float = 3.0, empty: tuple[int, ...] = (), first: int = 0
) -> PatchBatch:
    """A batch whose sample ``i`` depends on its index ``first + i`` alone; those in ``empty`` hold no pancreas."""
    images, labels, distances, axes = [], [], [], []
    for index in range(first, first + samples):
        rng = np.random.default_rng(index)
        place = np.stack(np.meshgrid(*[np.arange(size) - size / 2] * 3, indexing="ij")) * spacing
        radii = np.array([0.35, 0.2, 0.15]) * size * spacing
        mask = ((place / radii[:, None, None, None]) ** 2).sum(0) < 1
        if index in empty:
            mask[:] = False
        labels.append(mask)
        images.append(np.clip(0.4 + 0.2 * mask + 0.1 * rng.standard_normal(mask.shape), 0, 1))
        distances.append(_signed_distance(mask, spacing))
        axes.append(np.where(mask, np.clip(place[0] / (2 * radii[0]) + 0.5, 0, 1), OUTSIDE_AXIS))
    key = torch.tensor([[0, index] for index in range(first, first + samples)])
    case = [f"case{index}" for index in range(first, first + samples)]
    return PatchBatch(_stack(images), _stack(labels), _stack(distances), _stack(axes), key, case)


def part(batch: PatchBatch, sample: int) -> PatchBatch:
    """One sample as a batch of its own."""
    at = slice(sample, sample + 1)
    image, label, distance, axis, key, case = batch[:6]
    return PatchBatch(image[at], label[at], distance[at], axis[at], key[at], case[at])


def _signed_distance(mask: np.ndarray, spacing: float) -> np.ndarray:
    if not mask.any():
        return np.full(mask.shape, 100.0)
    outside = distance_transform_edt(~mask, sampling=spacing)
    return np.clip(outside - distance_transform_edt(mask, sampling=spacing), -100, 100)


def _stack(arrays: list[np.ndarray]) -> Tensor:
    return torch.tensor(np.stack(arrays)[:, None], dtype=torch.float32)
