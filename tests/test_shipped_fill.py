"""In the shipped experiments no region stays empty: the least share of patches that fill it, as their bases state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torchio as tio
from numpy.typing import NDArray
from torch import Tensor

from datamodules.patches import collate, read_padded
from datamodules.preprocessing import preprocess
from datamodules.reading import read_label
from datamodules.sampling import Stream, patch_centre
from datamodules.single_source import SingleSourceDataModule
from datamodules.store import AXIS_OUTSIDE, AXIS_STEPS, DISTANCE_SCALE, Spacing
from datamodules.structure import axis_coordinate, foreground, signed_distance
from datamodules.volume_files import read_volume
from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.locate import find_experiment
from lightning_modules.regions.bounds import Bounds
from lightning_modules.regions.structure import PARCEL_NAMES, REGION_NAMES, cell_regions, voxel_regions
from tests.conftest import Tiny
from tests.lightning_modules.real_labels import PANCREAS, PATIENTS, needs_labels, surroundings

Maps = tuple[Tensor, Tensor]
"""Distance in mm and axis of patches, B×D×H×W."""


class Fill(NamedTuple):
    """Of a stream of patches."""

    pancreas: float
    """Share that holds pancreas."""
    by_region: dict[str, float]
    """Of those, the share in which a region has a cell."""

    def least(self, kind: str) -> float:
        """Of cores, rims or rings, that which is filled least often."""
        rings = ("near", "mid", "far")
        return min(v for name, v in self.by_region.items() if (name in rings if kind == "ring" else kind in name))


def fill(patches: Iterator[Maps], spacing: Spacing, stride: int) -> Fill:
    bounds = Bounds.at(spacing, stride)
    rows = []
    for distance, axis in patches:
        cells = cell_regions(voxel_regions(distance, axis, bounds), stride)
        rows += [torch.bincount(sample.flatten(), minlength=len(REGION_NAMES)) > 0 for sample in cells]
    found = torch.stack(rows).float()
    holds = found[:, : len(PARCEL_NAMES)].any(1)
    return Fill(float(holds.float().mean()), dict(zip(REGION_NAMES, found[holds].mean(0).tolist(), strict=True)))


@pytest.mark.slow
def test_phantom_patches_fill_every_region_as_bases_phantom_states(tiny: Tiny) -> None:
    few = ["data.source.cases=20", f"data.source.root={tiny.phantoms}", f"data.store={tiny.home}/store"]
    config, other = (
        load_experiment(find_experiment(name), few).config for name in ("phantom_quick", "phantom_dual_ssl")
    )
    assert config.data.training() == other.data.training(), "what holds of one holds of both"
    assert (config.seed, config.model.contrastive.stride) == (other.seed, other.model.contrastive.stride)
    data = SingleSourceDataModule(config.data.training(), config.seed)
    data.prepare_data()
    data.setup()
    stored = data.train_dataloader().dataset

    def patches() -> Iterator[Maps]:
        for position in range(20 * len(data.cases)):
            batch = data.augmentation(collate([stored[position]]))
            yield batch.distance[:, 0], batch.axis[:, 0]

    found = fill(patches(), data.spacing, config.model.contrastive.stride)
    assert found.pancreas >= 0.75
    assert found.least("ring") >= 0.95, found
    assert found.least("rim") >= 0.7, found
    assert found.least("core") >= 0.3, found


@pytest.fixture
def msd(monkeypatch: pytest.MonkeyPatch) -> ExperimentConfig:
    """``msd_dual_ssl`` as it resolves on a machine without its data."""
    monkeypatch.setenv("PANSITE_DATA", "/nowhere")
    return load_experiment(find_experiment("msd_dual_ssl"), []).config


@needs_labels
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (0.8, 0.8, 2.5)])
def test_patches_of_two_real_patients_fill_every_region_as_bases_gpu_states(
    spacing: Spacing, msd: ExperimentConfig
) -> None:
    """At an isotropic spacing, and at one as Task07's median: thin voxels in thick slices."""
    size = msd.data.patch_size
    cases = [structure(patient, spacing) for patient in PATIENTS]
    stream = Stream(msd.seed, len(cases), msd.data.batch_size, msd.data.sampling.foreground)

    def patches() -> Iterator[Maps]:
        for position in range(90):
            place = stream.place(position)
            distance, axis, pancreas = cases[place.case]
            centre = patch_centre(place, msd.seed, distance.shape, pancreas if place.foreground else None)
            start = [c - n // 2 for c, n in zip(centre, size, strict=True)]
            yield box(distance, start, size, 100), box(axis, start, size, -1)

    found = fill(patches(), spacing, msd.model.contrastive.stride)
    assert found.pancreas >= 0.65
    assert found.least("ring") >= 0.95, found
    assert min(found.least("rim"), found.least("core")) >= 0.5, found


def box(volume: NDArray[np.float32], start: Sequence[int], size: Sequence[int], outside: int) -> Tensor:
    """1×D×H×W."""
    return torch.from_numpy(read_padded(lambda window: volume[window], volume.shape, start, size, outside))[None]


def structure(patient: str, spacing: Spacing) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Distance in mm, axis, and the voxels to centre patches on, as the store would hold them."""
    with surroundings(patient, 60.0) as (label, flat):
        voxels, grid = read_volume(flat)
        mask = read_label(label, [PANCREAS], grid)
    case = preprocess(
        tio.ScalarImage(tensor=torch.from_numpy(voxels.astype(np.float32))[None], affine=grid.affine),
        tio.LabelMap(tensor=torch.from_numpy(mask)[None], affine=grid.affine),
        spacing,
    )
    assert case.label is not None
    axis = axis_coordinate(case.label, case.affine)
    distance = signed_distance(case.label, spacing).astype(np.float32) / DISTANCE_SCALE
    places = np.where(axis == AXIS_OUTSIDE, -1, axis / AXIS_STEPS).astype(np.float32)
    return distance, places, foreground(case.label, axis)
