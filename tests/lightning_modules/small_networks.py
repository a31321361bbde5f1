"""Every backbone, small enough for seconds, beside MONAI's own network of the same settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_modules.networks.config import (
    DynUNetConfig,
    MedNeXtConfig,
    NetworkConfig,
    SegResNetConfig,
    SwinUNETRConfig,
)
from lightning_modules.networks.dynunet import monai_dynunet
from lightning_modules.networks.mednext import monai_mednext
from lightning_modules.networks.segresnet import monai_segresnet
from lightning_modules.networks.swin_unetr import monai_swin_unetr

SMALL: dict[str, NetworkConfig] = {
    "dynunet": DynUNetConfig(filters=(4, 8, 12, 16)),
    "segresnet": SegResNetConfig(init_filters=4, blocks_down=(1, 2, 1, 1), blocks_up=(1, 2, 1)),
    "swin_unetr": SwinUNETRConfig(feature_size=12, depths=(2, 1, 1, 1), num_heads=(1, 2, 3, 4), window_size=4),
    "mednext": MedNeXtConfig(init_filters=4),
}

MONAI: dict[str, Callable[[Any], Any]] = {
    "dynunet": lambda config: monai_dynunet(config, deep_heads=0),
    "segresnet": monai_segresnet,
    "swin_unetr": monai_swin_unetr,
    "mednext": monai_mednext,
}

PATCHES = {
    "dynunet": (16, 24, 32),
    "segresnet": (16, 24, 32),
    "swin_unetr": (64, 32, 32),
    "mednext": (32, 16, 16),
}
"""Patches with at least two cells at the bottleneck: a single one can't be normalised."""
