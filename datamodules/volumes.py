"""Whole prepared volumes, for validation and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.batch import VolumeBatch
from datamodules.sampling import StridedSampler
from datamodules.store import StoredCase
from datamodules.window import apply_window


class VolumeDataset(Dataset[VolumeBatch]):
    """Volumes of prepared cases.

    Args:
        cases: the cases.
        window: the source's HU window.
    """

    def __init__(self, cases: Sequence[StoredCase], window: tuple[float, float]) -> None:
        self.cases = list(cases)
        self.window = window

    def __getitem__(self, index: int) -> VolumeBatch:
        case = self.cases[index]
        image = apply_window(torch.from_numpy(case.image()), self.window)[None, None]
        label = torch.from_numpy(case.label()).float()[None, None] if case.labelled else torch.zeros_like(image)
        return VolumeBatch(image, label, case.record.site, case.record.case, str(case.folder))


def volume_loader(
    cases: Sequence[StoredCase], window: tuple[float, float], rank: int, ranks: int, idle: bool = True
) -> DataLoader[VolumeBatch]:
    """One rank's share of the volumes, one by one; a rank beyond them has none, or not its own unless ``idle``.

    They are read in the process itself: reading takes a fraction of what the network takes, and whole volumes
    would crowd the shared memory that workers hand them over in.
    """
    return DataLoader(
        VolumeDataset(cases, window),
        batch_size=None,
        sampler=StridedSampler(len(cases), rank, ranks, idle),
        collate_fn=_as_it_is,
    )


def _as_it_is(batch: Any) -> Any:
    return batch
