"""What is learned from: sites, preprocessing, spatial structure, store, single source, held out, phantoms."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.batch import PatchBatch, VolumeBatch
    from datamodules.held_out import HeldOutDataModule
    from datamodules.single_source import SingleSourceDataModule

__all__ = ["HeldOutDataModule", "PatchBatch", "SingleSourceDataModule", "VolumeBatch"]

_HOMES = {
    "HeldOutDataModule": "datamodules.held_out",
    "PatchBatch": "datamodules.batch",
    "SingleSourceDataModule": "datamodules.single_source",
    "VolumeBatch": "datamodules.batch",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: a configuration is read without waiting for torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
