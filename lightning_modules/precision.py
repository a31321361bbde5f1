"""Losses, similarities and entropies are computed in at least float32, whatever autocast does around them."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay what they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def no_autocast(values: Tensor) -> torch.autocast:
    """A context without autocast on the device of ``values``."""
    return torch.autocast(values.device.type, enabled=False)
