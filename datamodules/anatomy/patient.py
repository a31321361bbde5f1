"""One patient: what all of their organs share, and the random streams that the organs are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.anatomy.grid import Array, Points
from datamodules.anatomy.shapes import rotation
from datamodules.randomness import numpy_generator

WIDTH, DEPTH, BACK = 128.0, 80.0, 48.0
"""Half width and half depth of an average abdominal cavity, and its reach behind the vertebrae's middle, in mm."""


@dataclass(frozen=True)
class Patient:
    """A patient's build.

    Attributes:
        seed: the site's seed.
        case: number of the case in its site.
        adiposity: from 0, lean, to 1, obese.
        atrophy: fatty atrophy of the pancreas, 0 to 1.
        lesion: 0 for none, else how large a lesion of the pancreas and how wide its duct, up to 1.
        size: the skeleton's size relative to the mean.
        girth: relative half width and half depth of the cavity beside what size and adiposity make.
        lying: rotation about the long axis in degrees.
        shift: how far the abdominal organs lie above their mean place, in mm.
    """

    seed: int
    case: int
    adiposity: float
    atrophy: float
    lesion: float
    size: float
    girth: tuple[float, float]
    lying: float
    shift: float

    def stream(self, purpose: str) -> np.random.Generator:
        """The random stream of one organ or property; others do not disturb it."""
        return numpy_generator(self.seed, self.case, purpose)

    @property
    def half_width(self) -> float:
        """Half width of the abdominal cavity in mm."""
        return WIDTH * self.size * self.girth[0] * (0.92 + 0.26 * self.adiposity)

    @property
    def half_depth(self) -> float:
        """Half depth of the abdominal cavity in mm."""
        return DEPTH * self.size * self.girth[1] * (0.88 + 0.38 * self.adiposity)

    @property
    def middle(self) -> float:
        """The y of the cavity's middle in mm."""
        return self.half_depth - BACK * self.size

    @property
    def turn(self) -> Array:
        """How the patient lies: a rotation, shape (3, 3)."""
        return rotation(about_z=self.lying)

    def place(self, points: Points, follow: float = 1.0) -> Array:
        """Points of an average patient, moved to where they are in this one.

        Args:
            points: shape (N, 3), in mm.
            follow: how far they follow the cavity's depth; 1 for organs at its front wall, 0 for the spine.
        """
        placed = np.array(points, dtype=np.float64)
        depth = (self.middle + self.half_depth) / (2 * DEPTH - BACK)
        placed[:, 0] *= 1.0 + follow * (self.half_width / WIDTH - 1.0)
        placed[:, 1] *= np.where(placed[:, 1] > 0, 1.0 + follow * (depth - 1.0), self.size)
        placed[:, 2] = placed[:, 2] * self.size + self.shift * min(1.0, 2 * follow)
        turned: Array = placed @ self.turn.T
        return turned

    def unturned(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Positions in the scanner's axial plane as seen from the lying patient."""
        turn = self.turn
        return x * turn[0, 0] + y * turn[1, 0], x * turn[0, 1] + y * turn[1, 1]


def draw_patient(seed: int, case: int, habitus: float, lesions: float) -> Patient:
    """A patient of a site.

    Args:
        seed: the site's seed.
        case: number of the case.
        habitus: 0 the source's mostly slender patients with healthy pancreas; up to 1 it makes two of three more
            obese, the third emaciated, and lets fat take the place of pancreatic tissue.
        lesions: 0 none; above, every case bears one that grows with it, and so does its duct.
    """
    generator = numpy_generator(seed, case, "patient")
    slender = generator.uniform(0.18, 0.45)
    emaciated = generator.uniform() < 1 / 3
    target = generator.uniform(0.0, 0.08) if emaciated else generator.uniform(0.75, 1.0)
    share, tumour = generator.uniform(0.55, 1.0), generator.uniform(0.75, 1.0)
    return Patient(
        seed=seed,
        case=case,
        adiposity=slender + habitus * (target - slender),
        atrophy=habitus * share,
        lesion=lesions * tumour,
        size=float(np.clip(generator.normal(1.0, 0.055), 0.88, 1.12)),
        girth=(
            float(np.clip(generator.normal(1.0, 0.035), 0.92, 1.08)),
            float(np.clip(generator.normal(1.0, 0.05), 0.9, 1.1)),
        ),
        lying=float(generator.uniform(-7.0, 7.0)),
        shift=float(np.clip(generator.normal(0.0, 12.0), -24, 24)),
    )
