"""Sites of small abdomens brought into a store, for tests of preparation."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import SimpleITK
import torch

from datamodules.config import StructureConfig
from datamodules.in_turn import LOCK
from datamodules.layouts.manifest import ManifestSite
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site

GRID = (4.0, 4.0, 5.0)


def prepared(site: ManifestSite, folder: Path, spacing: Any = GRID, **options: Any) -> Preparation:
    """Prepare a site at :data:`GRID` without a word."""
    structure = options.pop("structure", StructureConfig())
    return prepare_site(site, spacing, structure, folder, progress=False, **options)


def stored_files(folder: Path) -> list[str]:
    """What is in a store, from its folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != LOCK)


def forked(work: Callable[[], int]) -> int:
    """The id of a process that does some work and exits with what it gives, or with 1.

    On one thread: those that torch and ITK have in this process are not there in another.
    """
    if child := os.fork():
        return child
    try:
        torch.set_num_threads(1)
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        os._exit(work())
    finally:
        os._exit(1)
