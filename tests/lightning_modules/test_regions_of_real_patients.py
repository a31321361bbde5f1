"""Regions of two real patients, found as training finds them, against the organs that lie beside them.

Anatomy itself is the judge: the duodenum embraces the pancreas' head, the spleen lies at its tail.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from experiments.regions.measure import Regions, measure
from lightning_modules.regions.structure import PARCEL_NAMES, REGION_NAMES
from tests.lightning_modules.real_labels import DUODENUM, PANCREAS, PATIENTS, SPLEEN, needs_labels, surroundings

pytestmark = needs_labels

SPACINGS, STRIDE = (1.0, 1.5, 3.0), 2
MARGIN = 40.0
THIRDS = ("head", "body", "tail")
ID = {name: i for i, name in enumerate(REGION_NAMES)}


@dataclass(frozen=True)
class Patient:
    """A patient's regions, and how far each cell is from the neighbouring organs, mm."""

    regions: Regions
    to: dict[int, NDArray[np.float64]]

    def third(self, name: str) -> NDArray[np.bool_]:
        return (self.regions.cells == ID[f"{name}_core"]) | (self.regions.cells == ID[f"{name}_rim"])

    @property
    def pancreas(self) -> NDArray[np.bool_]:
        return self.regions.cells < len(PARCEL_NAMES)


@cache
def patient(name: str, spacing: float) -> Patient:
    """A patient's regions and neighbouring organs."""
    with surroundings(name, MARGIN) as (label, flat):
        found = {organ: measure(label, [organ], flat, (spacing,) * 3, STRIDE) for organ in (PANCREAS, SPLEEN, DUODENUM)}
    return Patient(found[PANCREAS], {organ: found[organ].distance for organ in (SPLEEN, DUODENUM)})


everywhere = pytest.mark.parametrize(("name", "spacing"), [(p, s) for p in PATIENTS for s in SPACINGS])


@everywhere
def test_thirds_are_head_body_tail_in_this_order(name: str, spacing: float) -> None:
    seen = patient(name, spacing)
    masks = [seen.third(third) for third in THIRDS]
    sizes = np.array([mask.sum() for mask in masks])
    assert sizes / sizes.sum() == pytest.approx(np.full(3, 1 / 3), abs=0.06)
    # The first axis grows to the patient's right.
    places = [np.argwhere(mask)[:, 0].mean() for mask in masks]
    assert places == sorted(places, reverse=True)
    for organ, ordered in ((DUODENUM, masks), (SPLEEN, masks[::-1])):
        distances = [float(np.median(seen.to[organ][mask])) for mask in ordered]
        assert distances == sorted(distances)
        assert distances[0] + 10 < distances[2]
    # One follows on the other: head and tail do not touch, and each hangs together.
    head, body, tail = masks
    beside = ndimage.binary_dilation(head)
    assert not (beside & tail).any()
    assert (beside & body).any()
    assert (ndimage.binary_dilation(tail) & body).any()
    for mask in masks:
        pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
        assert count
        assert np.bincount(pieces.ravel())[1:].max() >= 0.85 * mask.sum()


@everywhere
def test_the_core_lies_within_the_rim_and_the_rim_at_the_surface(name: str, spacing: float) -> None:
    seen = patient(name, spacing)
    cells, distance, cell = seen.regions.cells, seen.regions.distance, STRIDE * spacing
    core = np.isin(cells, [ID[f"{third}_core"] for third in THIRDS])
    rim = seen.pancreas & ~core
    # At cells of 6 mm little is deeper than a cell.
    low, high = {1.0: (0.4, 0.6), 1.5: (0.25, 0.45), 3.0: (0.02, 0.1)}[spacing]
    assert low < core.sum() / seen.pancreas.sum() < high
    assert seen.regions.bounds.rim == max(2.0, cell)
    # A cell's mean depth says so, within what a cell that lies across a border may differ.
    assert np.median(distance[core]) < -seen.regions.bounds.rim < np.median(distance[rim]) < 0
    outside = ndimage.binary_dilation(~seen.pancreas)
    assert not (core & outside).any()
    assert (rim & outside).sum() >= 0.65 * rim.sum()
    assert distance[core].mean() < distance[rim].mean() - cell / 2


@everywhere
def test_rings_lie_around_the_organ_one_within_the_other(name: str, spacing: float) -> None:
    seen = patient(name, spacing)
    cells, bounds, cell = seen.regions.cells, seen.regions.bounds, STRIDE * spacing
    # By plain distances between the centres of cells, which know nothing of voxels: right to about a cell.
    plain = ndimage.distance_transform_edt(~seen.pancreas, sampling=cell)
    limits = {"near": (0.0, bounds.near), "mid": (bounds.near, bounds.mid), "far": (bounds.mid, np.inf)}
    for ring, (low, high) in limits.items():
        own = plain[cells == ID[ring]]
        assert len(own)
        assert low - 1.5 * cell < own.min()
        assert own.max() < high + 1.5 * cell
        assert low < np.median(own) < high
    touching = ndimage.binary_dilation(seen.pancreas, np.ones((3, 3, 3))) & ~seen.pancreas
    assert (cells[touching] == ID["near"]).mean() > 0.97
    assert not (ndimage.binary_dilation(cells == ID["near"]) & (cells == ID["far"])).any()
