"""How a phantom patient is scanned: field of view, slices, reconstruction kernel and noise.

Each function below has one factor from 0, the source's protocol, to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.anatomy.grid import Array, Grid
from datamodules.anatomy.patient import Patient

COLUMNS = 168
"""Pixels along an edge of the square image: a third of a scanner's 512, for speed."""
THIN, THICK = 2.0, 7.0
"""Slice thickness in mm at factor 0 and 1."""
QUIET, LOUD = 8.0, 34.0
"""Deviation of the noise in HU in the middle of the body at factor 0 and 1: standard dose with a soft kernel,
and low dose with a sharp one."""
AIR_HU, TOP_HU = -1024, 3071


@dataclass(frozen=True)
class Protocol:
    """A scan's geometry, in mm, in patient coordinates (RAS).

    Attributes:
        corner: centre of the lowest, leftmost, rearmost voxel.
        pixel: distance of pixels in the axial plane.
        thickness: of the slices, which touch each other.
        slices: their number.
        middle: x and y of the field of view's centre.
        table: where the scanner's origin lies relative to the patient's.
    """

    corner: tuple[float, float, float]
    pixel: float
    thickness: float
    slices: int
    middle: tuple[float, float]
    table: tuple[float, float, float]

    @property
    def parts(self) -> int:
        """How many thin layers make up a slice."""
        return max(1, round(self.thickness / THIN))

    def working_grid(self) -> Grid:
        """The grid that the patient is painted on: the scan's pixels, in thin layers."""
        layer = self.thickness / self.parts
        lowest = self.corner[2] - self.thickness / 2 + layer / 2
        plane: Array = np.arange(COLUMNS, dtype=np.float64) * self.pixel
        layers: Array = lowest + np.arange(self.slices * self.parts, dtype=np.float64) * layer
        return Grid(self.corner[0] + plane, self.corner[1] + plane, layers)

    def affine(self) -> Array:
        """Voxel to scanner coordinates in RAS mm, 4×4, for an array in RAS order."""
        affine = np.diag([self.pixel, self.pixel, self.thickness, 1.0])
        affine[:3, 3] = [c + t for c, t in zip(self.corner, self.table, strict=True)]
        return affine


def plan_scan(patient: Patient, organ: tuple[float, float], field_of_view: float, slice_thickness: float) -> Protocol:
    """The geometry of a scan.

    Args:
        patient: who is scanned.
        organ: lowest and highest z of the pancreas in mm; the scan always covers it.
        field_of_view: 0 fits the field of view to the patient, 21 cm long and centred; up to 1 it is up to 30 %
            narrower, which cuts the flanks off, or wider, 3 cm off-centre, cropped closely or some 8 cm longer.
        slice_thickness: 0 gives `THIN` slices, 1 `THICK` ones.
    """
    generator = patient.stream("scan")
    flank = patient.half_width + 16.0 + (3.5 + 38.0 * patient.adiposity**1.3)
    zoom = 1.0 + field_of_view * generator.uniform(-0.3, 0.3)
    pixel = 2.0 * (flank + generator.uniform(8, 20)) * zoom / COLUMNS
    off = generator.uniform(-1, 1, 2) * (30.0, 22.0) * field_of_view
    middle = (float(off[0]), float(patient.middle - 8.0 + off[1]))
    low, high = generator.uniform(-122, -104), generator.uniform(86, 102)
    stretch = generator.uniform(-1, 1, 2) * field_of_view
    low -= 60.0 * stretch[0] if stretch[0] < 0 else 42.0 * stretch[0]
    high += 70.0 * stretch[1] if stretch[1] < 0 else 36.0 * stretch[1]
    low, high = min(low, organ[0] - 12.0), max(high, organ[1] + 12.0)
    thickness = THIN + (THICK - THIN) * slice_thickness
    slices = int(np.ceil((high - low) / thickness))
    half = pixel * (COLUMNS - 1) / 2
    table = generator.uniform((-20, -190, -900), (20, -130, -300))
    return Protocol(
        corner=(middle[0] - half, middle[1] - half, float(low + thickness / 2)),
        pixel=float(pixel),
        thickness=float(thickness),
        slices=slices,
        middle=middle,
        table=(float(table[0]), float(table[1]), float(table[2])),
    )


def slices_of(layers: Array, protocol: Protocol) -> Array:
    """Partial volume: the mean of the thin layers in each slice; (X, Y, slices · parts) → (X, Y, slices)."""
    if protocol.parts == 1:
        return layers
    shape = (*layers.shape[:2], protocol.slices, protocol.parts)
    return np.asarray(layers.reshape(shape).sum(axis=3) / protocol.parts)


def reconstruct(hu: Array, protocol: Protocol, noise: float, generator: np.random.Generator) -> NDArray[np.int16]:
    """The image as a scanner writes it.

    Args:
        hu: partial volumes, (X, Y, Z).
        protocol: the scan.
        noise: 0 `QUIET` with a soft kernel, whose noise is coarse and whose edges are blurred; 1 `LOUD` with a
            sharp one, whose noise is fine and whose edges overshoot.
        generator: draws the noise.
    """
    soft = _blur(hu)
    image = soft + noise * 1.5 * (hu - soft)
    grain = generator.standard_normal(hu.shape)
    image += _kernel_noise(grain, noise) * ((QUIET + (LOUD - QUIET) * noise) * _centre_weight(protocol))[:, :, None]
    return np.clip(np.rint(image), AIR_HU, TOP_HU).astype(np.int16)


def _blur(image: Array) -> Array:
    weights = np.array([0.14, 0.72, 0.14])
    first = ndimage.correlate1d(image, weights, axis=1, mode="nearest")
    return np.asarray(ndimage.correlate1d(first, weights, axis=0, mode="nearest"))


def _kernel_noise(grain: Array, sharpness: float) -> Array:
    """White noise as a soft (0) to a sharp kernel (1) passes it, with a deviation of 1."""

    def passed(white: Array) -> Array:
        weights = np.array([0.25, 0.5, 0.25])
        low = ndimage.correlate1d(white, weights, axis=1, mode="nearest")
        low = ndimage.correlate1d(low, weights, axis=0, mode="nearest")
        return np.asarray(low + sharpness * (0.55 * white - 0.9 * low))

    impulse = np.zeros((9, 9, 1))
    impulse[4, 4] = 1.0
    return passed(grain) / float(np.sqrt(np.sum(passed(impulse) ** 2)))


def _centre_weight(protocol: Protocol) -> Array:
    """Rays through the middle are weakened most: the noise's deviation by pixel relative to the middle, (X, Y)."""
    plane = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * protocol.pixel
    x, y = plane + protocol.middle[0], plane
    weight: Array = 0.55 + 0.45 * np.exp(-((x[:, None] / 150.0) ** 2) - (y[None, :] / 130.0) ** 2)
    return weight
