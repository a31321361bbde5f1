"""The operators by name, in the order in which they act where a cell has two: what moves voxels first."""

from __future__ import annotations

from lightning_modules.regions.operators import Operator
from lightning_modules.regions.operators.blur import blur
from lightning_modules.regions.operators.inpaint import inpaint
from lightning_modules.regions.operators.noise import noise
from lightning_modules.regions.operators.random_conv import random_conv
from lightning_modules.regions.operators.remap import remap
from lightning_modules.regions.operators.shuffle import shuffle
from lightning_modules.regions.operators.swap import swap

OPERATORS: dict[str, Operator] = {
    "swap": swap,
    "inpaint": inpaint,
    "shuffle": shuffle,
    "random_conv": random_conv,
    "remap": remap,
    "blur": blur,
    "noise": noise,
}
