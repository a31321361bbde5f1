"""HU to the network's input range."""

from __future__ import annotations

from torch import Tensor


def apply_window(hu: Tensor, window: tuple[float, float]) -> Tensor:
    """Map the window's HU linearly to [0, 1] and clip what lies beyond.

    Args:
        hu: any shape, any real type, in HU.
        window: HU that become 0 and 1.

    Returns:
        Float of the same shape in [0, 1].
    """
    low, high = window
    return hu.float().sub(low).div_(high - low).clamp_(0.0, 1.0)
