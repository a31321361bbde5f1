"""How results are measured, in the words that stand above every table."""

from __future__ import annotations

from collections.abc import Sequence

TOLERANCE_MM = 2.0
"""Default tolerance of the normalised surface Dice."""
BAND_MM = 3.0
"""Half the width of the band about the reference's surface; just above the tolerance of a surface that is right."""
RING_MM = 15.0
"""How far around the reference calibration is looked at."""
EMPTY_MASKS = (
    "Both masks empty: Dice, NSD, precision and recall 1, distances 0, counted as both_empty. One of them empty: "
    "Dice, NSD, precision and recall 0, distances the volume's diagonal, counted as a failure. None is left out."
)
"""The policy in full, as ``summary.json`` holds it."""
UNMEASURED = (
    "A third that the reference does not have, a relative volume error without a reference, and what takes "
    "probabilities where there are none are empty cells, left out of their means."
)
"""What has no value, as ``summary.json`` holds it."""


def how_measured(tolerance: float, spacings: Sequence[float] | None = None, smallest_piece: float = 0.0) -> str:
    """The sentence above a table: tolerance, grid, spacing and what becomes of empty masks.

    Args:
        tolerance: of the NSD, mm.
        spacings: the smallest and the largest edge of a voxel among the cases, mm, where they are known.
        smallest_piece: pieces of a predicted mask under this share of its largest were left out; 0 for none.
    """
    edges = "" if spacings is None else f" (voxel edges of {spacings[0]:.3g} to {spacings[1]:.3g} mm)"
    of = f", without pieces under {100 * smallest_piece:g} % of a mask’s largest" if smallest_piece else ""
    return (
        f"Measured case by case on each case’s native grid in its own spacing{edges}{of}, NSD at a tolerance of "
        f"{tolerance:g} mm; no case is left out: where prediction or label alone is empty, a failure, Dice and NSD are "
        f"0 and distances the volume’s diagonal, and where both are empty, Dice and NSD are 1 and distances 0."
    )


def how_detailed() -> str:
    """The sentence above what is told beside overlap and distances."""
    return (
        f"Recall by third of the label from head to tail; band Dice within {BAND_MM:g} mm of the label’s surface; "
        f"volume error as predicted − label; calibration (ECE, within {RING_MM:g} mm of the label and inside) and "
        f"uncertainty (mean entropy in bit of the predicted region, 1 where nothing is predicted) on the training "
        f"grid, where the probabilities are."
    )
