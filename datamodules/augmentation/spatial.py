"""Rotation, scaling and elastic deformation, applied to a patch and its maps through one sampling grid.

Offsets are voxels from the middle of a patch along D, H, W. A deformation maps an offset o of the output to the
offset M·(o + u(o)) of the input. Rotations are made in millimetres, so that they are rotations on anisotropic
voxels too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from datamodules.augmentation.base import FOLDING, SpatialConfig
from datamodules.randomness import numpy_generator

Voxel = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Deformation:
    """Where each voxel of an output patch comes from.

    Attributes:
        matrix: M, float64 3×3.
        zoom: magnification of lengths in mm; the geometric mean over the axes.
        control: u at the control points, float32 3×d×h×w in voxels, the outermost at the patch's corners; None for
            u = 0.
    """

    matrix: NDArray[np.float64]
    zoom: float = 1.0
    control: NDArray[np.float32] | None = None

    def margin(self, patch_size: Voxel) -> Voxel:
        """Voxels beyond each face of the patch that the output reaches for."""
        half = (np.array(patch_size) - 1) / 2
        moved = 0.0 if self.control is None else np.abs(self.control).max(axis=(1, 2, 3))
        reach = np.abs(self.matrix) @ (half + moved) - half
        d, h, w = (max(0, math.ceil(r - 1e-6)) for r in reach)
        return d, h, w


def draw_deformation(
    config: SpatialConfig, spacing: Spacing, patch_size: Voxel, seed: int, epoch: int, index: int
) -> Deformation | None:
    """The deformation of a sample; None where nothing is to be done to it."""
    angles = _rotation_angles(config, seed, epoch, index)
    scales = _scales(config, seed, epoch, index)
    control = _control_points(config, spacing, patch_size, seed, epoch, index)
    if angles is None and scales is None and control is None:
        return None
    to_mm = np.diag(spacing)
    rotation = np.eye(3) if angles is None else rotation_matrix(*angles)
    shrink = np.eye(3) if scales is None else np.diag(1 / scales)
    zoom = 1.0 if scales is None else float(np.prod(scales) ** (1 / 3))
    return Deformation(np.linalg.inv(to_mm) @ rotation @ shrink @ to_mm, zoom, control)


def rotation_matrix(d: float, h: float, w: float) -> NDArray[np.float64]:
    """Rotation about the D, then the H, then the W axis; angles in radians."""

    def about(axis: int, angle: float) -> NDArray[np.float64]:
        matrix = np.eye(3)
        i, j = (other for other in range(3) if other != axis)
        matrix[[i, i, j, j], [i, j, i, j]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
        return matrix

    return about(2, w) @ about(1, h) @ about(0, d)


def resample(
    image: Tensor, maps: Iterable[Tensor], deformation: Deformation, patch_size: Voxel
) -> tuple[Tensor, list[Tensor]]:
    """Deform an image (trilinear) and its maps (nearest voxel) alike.

    Args:
        image: float D'×H'×W', the patch with its margin, whose middle is the patch's.
        maps: D'×H'×W' each, of any type, which they keep.
        deformation: where voxels come from.
        patch_size: D, H, W of the result.

    Returns:
        Image and maps, each D×H×W.
    """
    places = _places(deformation, patch_size, image.shape, image.device)
    # "border" touches no voxel of a rightly cut margin: it only catches the rounding at its faces.
    inputs = _by_slices(image, places.permute(1, 2, 3, 0))
    smooth = F.grid_sample(*inputs, mode="bilinear", padding_mode="border", align_corners=True)
    nearest = _nearest(places, image.shape).view(-1)
    return smooth.view(patch_size), [each.reshape(-1).index_select(0, nearest).view(patch_size) for each in maps]


def _places(deformation: Deformation, patch_size: Voxel, source: Sequence[int], device: torch.device) -> Tensor:
    """Where voxels come from along W, H, D, as ``grid_sample`` counts with ``align_corners=True``: −1 to 1.

    Args:
        deformation: where voxels come from.
        patch_size: D, H, W of the output.
        source: D, H, W of the input, whose middle is the output's.
        device: where they are made.

    Returns:
        Float32 3×D×H×W.
    """
    # An offset along one axis is the same all over a slice, and so is its product with the matrix' entry.
    d, h, w = (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in patch_size)
    offsets = [d[:, None, None], h[:, None], w]
    if deformation.control is not None:
        moved = between(torch.from_numpy(deformation.control).to(device), patch_size)
        offsets = [offset + u for offset, u in zip(offsets, moved, strict=True)]
    places = torch.empty((3, *patch_size), device=device)
    for place, row, size in zip(reversed(places.unbind()), deformation.matrix.tolist(), source, strict=True):
        torch.add(row[0] * offsets[0] + row[1] * offsets[1], row[2] * offsets[2], out=place)
        place.div_(max((size - 1) / 2, 1.0))
    return places


def between(control: Tensor, size: Voxel) -> Tensor:
    """Trilinear values between control points, the outer of which lie in the corner voxels.

    Axis by axis, as products with each axis' few weights: a fifth of the time of ``F.interpolate``, which it equals
    but for rounding.

    Args:
        control: float32 C×d×h×w, at least one point along each axis.
        size: D, H, W of the result.

    Returns:
        Float32 C×D×H×W.
    """
    along_d, along_h, along_w = (
        _linear_weights(n, points).to(control.device) for n, points in zip(size, control.shape[1:], strict=True)
    )
    planes = along_h @ control @ along_w.T
    return (along_d @ planes.flatten(2)).view(len(control), *size)


def _linear_weights(size: int, points: int) -> Tensor:
    places = torch.linspace(0, points - 1, size, dtype=torch.float64)
    return (1 - (places[:, None] - torch.arange(points)).abs()).clamp_(min=0).float()


def _by_slices(image: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Image and grid as ``grid_sample`` takes them; on a CPU slice by slice, for threads share a batch alone."""
    if image.device.type != "cpu":
        return image[None, None], grid[None]
    return image.expand(len(grid), 1, *image.shape), grid[:, None]


def _nearest(places: Tensor, source: Sequence[int]) -> Tensor:
    """The input's voxel that ``grid_sample`` would take for the nearest one, as an index into the flat input.

    Found once for all maps, which so need not become floats, margin and all.
    """
    index = torch.zeros(places.shape[1:], dtype=torch.int32, device=places.device)
    for place, size in zip(reversed(places.unbind()), source, strict=True):
        voxel = place.add(1).div_(2).mul_(size - 1).clamp_(0, size - 1).round_()
        index.mul_(size).add_(voxel.int())
    return index


def _rotation_angles(config: SpatialConfig, seed: int, epoch: int, index: int) -> tuple[float, float, float] | None:
    generator = numpy_generator(seed, epoch, index, "rotation")
    if generator.random() >= config.spatial or config.rotation == 0:
        return None
    d, h, w = np.deg2rad(generator.uniform(-config.rotation, config.rotation, 3)).tolist()
    return d, h, w


def _scales(config: SpatialConfig, seed: int, epoch: int, index: int) -> NDArray[np.float64] | None:
    generator = numpy_generator(seed, epoch, index, "scaling")
    if generator.random() >= config.spatial or (tuple(config.zoom) == (1.0, 1.0) and config.anisotropy == 0):
        return None
    zoom = generator.uniform(*config.zoom)
    beside = generator.uniform(-config.anisotropy, config.anisotropy, 3)
    return np.asarray(zoom * np.exp(beside - beside.mean()))


def _control_points(
    config: SpatialConfig, spacing: Spacing, patch_size: Voxel, seed: int, epoch: int, index: int
) -> NDArray[np.float32] | None:
    generator = numpy_generator(seed, epoch, index, "elastic")
    if generator.random() >= config.spatial or config.elastic == 0:
        return None
    lengths = (np.array(patch_size) - 1) * np.array(spacing)
    counts = np.maximum(2, np.floor(lengths / config.elastic_spacing).astype(int) + 1)
    largest = min(config.elastic, float((lengths / (counts - 1)).min()) / FOLDING)
    moved = generator.uniform(-largest, largest, (3, *counts))
    return np.asarray(moved / np.array(spacing)[:, None, None, None], dtype=np.float32)
