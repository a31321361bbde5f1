"""Merged regions: which cells they hold, which slots they get, and that no slot leaves its region."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.batch import OUTSIDE_AXIS
from lightning_modules.regions.bounds import Bounds
from lightning_modules.regions.sampling import WEIGHTED, draw_slots, keyed_draws
from lightning_modules.regions.structure import FINEST, REGION_NAMES, Partition, cell_regions, voxel_regions

STRUCTURES, RINGS = ("both", "axis", "shells", "none"), ("three", "one")
SLOTS = (16,) * 6 + (96, 64, 32)
BOUNDS = Bounds(rim=3.0, near=6.0, mid=15.0)


@pytest.mark.parametrize(
    ("structure", "rings", "names", "slots"),
    [
        ("both", "three", REGION_NAMES, SLOTS),
        ("axis", "three", ("head", "body", "tail", "near", "mid", "far"), (32, 32, 32, 96, 64, 32)),
        ("shells", "three", ("core", "rim", "near", "mid", "far"), (48, 48, 96, 64, 32)),
        ("none", "three", ("pancreas", "near", "mid", "far"), (96, 96, 64, 32)),
        ("both", "one", (*REGION_NAMES[:6], "background"), (16,) * 6 + (192,)),
        ("axis", "one", ("head", "body", "tail", "background"), (32, 32, 32, 192)),
        ("shells", "one", ("core", "rim", "background"), (48, 48, 192)),
        ("none", "one", ("pancreas", "background"), (96, 192)),
    ],
)
def test_a_merged_region_has_the_slots_of_all_that_it_is_made_of(
    structure: str, rings: str, names: tuple[str, ...], slots: tuple[int, ...]
) -> None:
    partition = Partition.of(structure, rings)  # type: ignore[arg-type]
    assert partition.names == names
    assert partition.merged(SLOTS) == slots
    assert sum(slots) == 288


def test_nothing_is_merged_by_default() -> None:
    assert Partition.of() == FINEST
    assert FINEST.region == tuple(range(9))


def name_of(distance: float, axis: float, structure: str, rings: str) -> str:
    """A voxel's region in words, from the definition."""
    if distance >= 0:
        ring = "near" if distance <= BOUNDS.near else "mid" if distance <= BOUNDS.mid else "far"
        return ring if rings == "three" else "background"
    third = "head" if 0 <= axis < 1 / 3 else "tail" if axis >= 2 / 3 else "body"
    shell = "rim" if distance >= -BOUNDS.rim else "core"
    return {"both": f"{third}_{shell}", "axis": third, "shells": shell, "none": "pancreas"}[structure]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    structure=st.sampled_from(STRUCTURES),
    rings=st.sampled_from(RINGS),
    sampling=st.sampled_from(list(WEIGHTED)),
    stride=st.sampled_from([1, 2, 4]),
    inside=st.floats(0, 1),
)
def test_a_slot_is_never_a_cell_of_another_region_and_a_cell_never_of_the_other_side(
    seed: int, structure: str, rings: str, sampling: str, stride: int, inside: float
) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, 2 * stride, 3 * stride, 4 * stride)
    pancreas = rng.random(shape) < inside
    distance = np.where(pancreas, rng.uniform(-9, -0.1, shape), rng.uniform(0, 40, shape))
    axis = np.where(pancreas & (rng.random(shape) < 0.9), rng.random(shape), OUTSIDE_AXIS)

    partition = Partition.of(structure, rings)  # type: ignore[arg-type]
    voxels = voxel_regions(torch.from_numpy(distance), torch.from_numpy(axis), BOUNDS)
    cells = cell_regions(voxels, stride, partition).flatten(1)
    draws = keyed_draws(torch.tensor([[0, 0], [0, 1]]), seed, cells.shape[1], cells.device)
    uncertainty = torch.from_numpy(rng.random(cells.shape))
    numbers = partition.merged(SLOTS)
    slots = draw_slots(cells, uncertainty, numbers, draws, sampling)  # type: ignore[arg-type]
    assert slots.cell.shape == slots.valid.shape == (2, 288)

    owner = [name for name, number in zip(partition.names, numbers, strict=True) for _ in range(number)]
    regions = np.vectorize(lambda d, a: name_of(d, a, structure, rings))(distance, axis)
    for b in range(2):
        counts = []
        for i, j, k in product(range(2), range(3), range(4)):
            window = tuple(slice(n * stride, (n + 1) * stride) for n in (i, j, k))
            own, side = regions[b][window].ravel(), pancreas[b][window].ravel()
            counts.append(Counter(own[side == (2 * side.sum() >= side.size)].tolist()))
        for slot, cell, valid in zip(owner, slots.cell[b].tolist(), slots.valid[b].tolist(), strict=True):
            assert not valid or counts[cell][slot] == max(counts[cell].values()) > 0
        drawn = Counter(slot for slot, valid in zip(owner, slots.valid[b].tolist(), strict=True) if valid)
        held = Counter(partition.names[int(region)] for region in cells[b])
        assert drawn == {
            name: min(held[name], n) for name, n in zip(partition.names, numbers, strict=True) if held[name]
        }


@pytest.mark.parametrize(("sampling", "share"), [("uniform", 0.1), ("mixed", 0.55), ("uncertain", 1.0)])
def test_sampling_sets_how_many_slots_follow_uncertainty(sampling: str, share: float) -> None:
    regions = torch.zeros(100, 4000, dtype=torch.long)
    uncertain = torch.zeros(100, 4000)
    uncertain[:, :400] = 1.0
    draws = keyed_draws(torch.stack([torch.zeros(100), torch.arange(100)], 1).long(), 0, 4000, regions.device)
    cells = draw_slots(regions, uncertain, (96,), draws, sampling).cell  # type: ignore[arg-type]
    assert (cells < 400).float().mean() == pytest.approx(share, abs=0.03)
