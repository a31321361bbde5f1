"""Every random draw is a pure function of a key: (seed, epoch, index, purpose), never of rank, worker or time.

No random state is ever stored; a resumed run, another number of workers or of ranks draws the same.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def key_seed(*key: int | str) -> int:
    """A 63-bit seed from a key such as ``(seed, epoch, index, "affine")``; equal on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(*key: int | str) -> np.random.Generator:
    """NumPy's generator for a key."""
    return np.random.default_rng(key_seed(*key))


def torch_generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for a key; draws on a GPU differ from those on a CPU, but not from run to run."""
    import torch

    return torch.Generator(device=device).manual_seed(key_seed(*key))
