"""Where the regions around the pancreas' surface end; free of torch, so that a configuration is checked by it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from datamodules.errors import UsageError

FARTHEST = 90.0
"""Mid rings must end here, mm: distances are stored clipped at 100 mm, and far needs room."""


@dataclass(frozen=True)
class Bounds:
    """Where the regions end, in mm of signed distance to the pancreas' surface.

    Attributes:
        rim: pancreas within this depth is rim, deeper is core.
        near: end of the near ring.
        mid: end of the mid ring; far is beyond.
    """

    rim: float
    near: float
    mid: float

    @classmethod
    def at(cls, spacing: tuple[float, float, float], stride: int) -> Bounds:
        """Bounds that leave every ring at least about one cell of room.

        A cell of anisotropic voxels counts as the cube of its volume: so a ring holds about as many cells as at
        isotropic voxels of that volume. (By the longest edge, thick slices would leave the pancreas no core.)

        Args:
            spacing: of the voxels along D, H, W, mm.
            stride: voxels per cell along each axis.

        Raises:
            UsageError: the mid ring would pass 90 mm.
        """
        if (sentence := too_far(spacing, stride)) is not None:
            raise UsageError(f"model.contrastive.stride: {sentence}")
        return _bounds(spacing, stride)


def too_far(spacing: tuple[float, float, float], stride: int) -> str | None:
    """Why that stride does not go with that spacing, to follow the key of the stride; None where it does."""
    found = _bounds(spacing, stride)
    if found.mid <= FARTHEST:
        return None
    return (
        f"{stride} at a spacing of {list(spacing)} mm makes cells of {_cell(spacing, stride):.3g} mm and puts the end "
        f"of the mid ring at {found.mid:.0f} mm, beyond the {FARTHEST:.0f} mm to which distances are known; take a "
        "smaller stride or a finer spacing."
    )


def _bounds(spacing: tuple[float, float, float], stride: int) -> Bounds:
    cell = _cell(spacing, stride)
    near = max(5.0, 2 * cell)
    return Bounds(rim=max(2.0, cell), near=near, mid=max(15.0, near + 2 * cell))


def _cell(spacing: tuple[float, float, float], stride: int) -> float:
    """Edge of a cube of a cell's volume, mm."""
    edge: float = stride * prod(spacing) ** (1 / 3)
    return edge
