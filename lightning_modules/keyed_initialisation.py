"""Weights from a random stream of their own: what else is built, and in which order, does not alter them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from datamodules.randomness import key_seed


@contextmanager
def keyed_initialisation(seed: int, purpose: str) -> Iterator[None]:
    """Modules built on the CPU in this block draw from the stream of (seed, purpose), not from the global one."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also reseed every GPU.
        torch.default_generator.manual_seed(key_seed(seed, purpose))
        yield
