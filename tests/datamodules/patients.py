"""Patients of random tissue, each unlike all others at every place, for tests of what tells scans apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.datamodules.ct_files import save

Edges = tuple[float, float, float]
Array = NDArray[np.float32]

SHAPE, EDGES = (88, 72, 72), (3.0, 3.0, 3.0)


def patient(seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.int16]:
    """HU of a body of organs and fat in air, by smooth noise, with the noise of a scanner."""
    generator = np.random.default_rng([77, seed])
    organs = ndimage.gaussian_filter(generator.normal(0, 1, shape).astype(np.float32), 4)
    tissue = np.where(organs > organs.std() * 0.3, 60 + 200 * organs / organs.std() / 8, -100)
    x, y = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    bend = generator.uniform(0.75, 0.9, 2)
    body = ((x / bend[0]) ** 2 + (y / bend[1]) ** 2 < 1)[..., None]
    return np.where(body, tissue + generator.normal(0, 12, shape), -1000).round().astype(np.int16)


def resampled(hu: NDArray[np.int16], edges: Edges, wanted: Edges) -> tuple[Array, Edges]:
    """A volume by linear interpolation on another grid, as tools do it: without smoothing first."""
    factors = [edge / new for edge, new in zip(edges, wanted, strict=True)]
    out = ndimage.zoom(hu.astype(np.float32), factors, order=1, mode="nearest", grid_mode=True)
    x, y, z = (edge * n / m for edge, n, m in zip(edges, hu.shape, out.shape, strict=True))
    return out, (x, y, z)


WAYS: dict[str, Callable[[NDArray[np.int16], Edges], tuple[Array, Edges]]] = {
    "flipped across": lambda hu, e: (hu[::-1].astype(np.float32), e),
    "flipped front to back": lambda hu, e: (hu[:, ::-1].astype(np.float32), e),
    "flipped along": lambda hu, e: (hu[..., ::-1].astype(np.float32), e),
    "flipped in all": lambda hu, e: (hu[::-1, ::-1, ::-1].astype(np.float32), e),
    "float, clipped": lambda hu, e: (hu.clip(-100, 240) + np.float32(0.3), e),
    "the lower half": lambda hu, e: (hu[..., : hu.shape[2] // 2].astype(np.float32), e),
    "60 mm, flipped": lambda hu, e: (hu[::-1, :, 11 : 11 + int(np.ceil(60 / e[2]))].astype(np.float32), e),
    "2 mm": lambda hu, e: resampled(hu, e, (2.0, 2.0, 2.0)),
    "5 mm slices": lambda hu, e: resampled(hu, e, (e[0], e[1], 5.0)),
    "cropped in each slice": lambda hu, e: (hu[4:-7, 5:-3].astype(np.float32), e),
    "all of these": lambda hu, e: resampled(hu[3:-4, ::-1, 8:49][..., ::-1], e, (2.5, 2.5, 4.0)),
}
"""What a tool may make of a scan."""


def write_patient(
    folder: Path, name: str, hu: NDArray[np.int16], edges: Edges = EDGES, organ: int | None = None
) -> str:
    """Write a scan with a bar for a pancreas, of ``organ`` HU if given; the row of a manifest that names it."""
    matrix = np.diag([*edges, 1.0])
    label = np.zeros(hu.shape, np.uint8)
    d, h, w = (size // 2 for size in hu.shape)
    label[d - 8 : d + 8, h - 4 : h + 4, w - 3 : w + 3] = 1
    save(folder / f"{name}.nii.gz", hu if organ is None else np.where(label > 0, np.int16(organ), hu), matrix)
    save(folder / f"{name}_label.nii.gz", label, matrix)
    return f"{name},{name}.nii.gz,{name}_label.nii.gz"
