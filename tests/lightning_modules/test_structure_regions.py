"""Regions of the feature cells: what method and anatomy say they are."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from datamodules.batch import OUTSIDE_AXIS
from datamodules.errors import UsageError
from datamodules.store import AXIS_OUTSIDE, AXIS_STEPS, DISTANCE_SCALE
from datamodules.structure import axis_coordinate, signed_distance
from lightning_modules.regions.bounds import Bounds
from lightning_modules.regions.structure import REGION_NAMES, Partition, cell_regions, voxel_regions

ID = {name: i for i, name in enumerate(REGION_NAMES)}


@pytest.mark.parametrize(
    ("spacing", "stride", "bounds"),
    [
        ((0.8, 0.8, 0.8), 2, Bounds(2.0, 5.0, 15.0)),
        ((1.5, 1.5, 1.5), 2, Bounds(3.0, 6.0, 15.0)),
        ((3.0, 3.0, 3.0), 2, Bounds(6.0, 12.0, 24.0)),
        ((3.0, 3.0, 3.0), 4, Bounds(12.0, 24.0, 48.0)),
        ((1.0, 1.0, 8.0), 2, Bounds(4.0, 8.0, 16.0)),
    ],
)
def test_rings_leave_room_for_two_cells_and_the_rim_for_one(
    spacing: tuple[float, float, float], stride: int, bounds: Bounds
) -> None:
    found = Bounds.at(spacing, stride)
    assert (found.rim, found.near, found.mid) == pytest.approx((bounds.rim, bounds.near, bounds.mid))


def test_a_mid_ring_beyond_the_known_distances_is_refused() -> None:
    assert Bounds.at((5.6, 5.6, 5.6), 4).mid < 90
    with pytest.raises(UsageError, match=r"model\.contrastive\.stride: 8 .* 96 mm"):
        Bounds.at((3.0, 3.0, 3.0), 8)


@pytest.mark.parametrize(
    ("distance", "axis", "name"),
    [
        (-3.01, 0.0, "head_core"),
        (-3.0, 0.33, "head_rim"),
        (-0.1, 0.5, "body_rim"),
        (-9.0, 0.34, "body_core"),
        (-9.0, 1.0, "tail_core"),
        (-0.1, 0.67, "tail_rim"),
        (-9.0, -1.0, "body_core"),
        (-1.0, -1.0, "body_rim"),
        (0.0, -1.0, "near"),
        (6.0, -1.0, "near"),
        (6.1, -1.0, "mid"),
        (15.0, -1.0, "mid"),
        (15.1, -1.0, "far"),
        (100.0, -1.0, "far"),
    ],
)
def test_a_voxels_region(distance: float, axis: float, name: str) -> None:
    region = voxel_regions(torch.tensor([distance]), torch.tensor([axis]), Bounds(3.0, 6.0, 15.0))
    assert REGION_NAMES[int(region)] == name


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), stride=st.sampled_from([1, 2, 4]), kinds=st.integers(1, 9))
def test_a_cell_is_the_commonest_region_of_the_side_that_holds_half(seed: int, stride: int, kinds: int) -> None:
    rng = np.random.default_rng(seed)
    choice = rng.choice(9, kinds, replace=False)
    voxels = rng.choice(choice, (2, 2 * stride, stride, 3 * stride)).astype(np.uint8)
    found = cell_regions(torch.from_numpy(voxels), stride)
    assert found.shape == (2, 2, 1, 3)
    for b, i, j, k in np.ndindex(*found.shape):
        window = tuple(slice(n * stride, (n + 1) * stride) for n in (i, j, k))
        cell = voxels[b][window].ravel().tolist()
        pancreas = [v for v in cell if v < 6]
        side = pancreas if 2 * len(pancreas) >= len(cell) else [v for v in cell if v >= 6]
        counts = Counter(side)
        assert counts[int(found[b, i, j, k])] == max(counts.values())


def test_what_nearly_all_cells_of_thin_pancreas_would_lose_is_kept_at_exactly_half() -> None:
    voxels = torch.full((1, 2, 2, 2), ID["near"], dtype=torch.uint8)
    voxels[:, 0] = ID["tail_rim"]
    assert int(cell_regions(voxels, 2)) == ID["tail_rim"]
    voxels[0, 0, 0, 0] = ID["near"]
    assert int(cell_regions(voxels, 2)) == ID["near"]


LABELS = Path(os.environ.get("PANSITE_TEST_DATA", "")) / "label_maps"
needs_labels = pytest.mark.skipif(
    "PANSITE_TEST_DATA" not in os.environ, reason="PANSITE_TEST_DATA names no folder with real label maps"
)
CASES = ("s0327", "s0328")


@cache
def real_structure(case: str, spacing: float) -> tuple[Tensor, Tensor]:
    """Distance in mm and axis of a real pancreas at an isotropic spacing, as training patches hold them."""
    picture = nibabel.load(LABELS / f"{case}_multilabel_v2ids.nii.gz")
    assert nibabel.aff2axcodes(picture.affine) == ("R", "A", "S")
    label = (np.asarray(picture.dataobj) == 7).astype(np.uint8)
    window = tuple(slice(max(0, s.start - 40), s.stop + 40) for s in ndimage.find_objects(label)[0])
    label = (ndimage.zoom(label[window].astype(np.float32), 1.5 / spacing, order=1) >= 0.5).astype(np.uint8)
    distance = signed_distance(label, (spacing,) * 3) / DISTANCE_SCALE
    stored = axis_coordinate(label, np.diag([spacing, spacing, spacing, 1.0]))
    axis = np.where(stored == AXIS_OUTSIDE, OUTSIDE_AXIS, stored / AXIS_STEPS)
    return torch.from_numpy(distance).float(), torch.from_numpy(axis).float()


@needs_labels
@pytest.mark.parametrize("spacing", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("case", CASES)
def test_on_real_anatomy_every_region_lies_where_its_name_says(case: str, spacing: float) -> None:
    stride = 2
    distance, axis = real_structure(case, spacing)
    distance, axis = (m[tuple(slice(0, n - n % stride) for n in m.shape)] for m in (distance, axis))
    bounds = Bounds.at((spacing,) * 3, stride)
    cells = cell_regions(voxel_regions(distance, axis, bounds)[None], stride)[0]
    mean = torch.nn.functional.avg_pool3d(distance[None], stride)[0]

    def middle(name: str) -> float:
        return float(mean[cells == ID[name]].median())

    right = torch.arange(cells.shape[0])[:, None, None].expand(cells.shape)
    places = [float(right[(cells == ID[f"{t}_rim"])].float().mean()) for t in ("head", "body", "tail")]
    assert places == sorted(places, reverse=True)
    assert -bounds.rim < middle("body_rim") < 0.5 * spacing
    assert 0 < middle("near") < bounds.near < middle("mid") < bounds.mid < middle("far")
    cores = torch.cat([mean[cells == ID[f"{t}_core"]] for t in ("head", "body", "tail")])
    assert len(cores)
    assert float(cores.median()) < -bounds.rim


@needs_labels
@pytest.mark.parametrize("spacing", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("case", CASES)
def test_on_real_anatomy_merging_regions_moves_no_cell_to_the_other_side(case: str, spacing: float) -> None:
    stride = 2
    maps = (m[tuple(slice(0, n - n % stride) for n in m.shape)] for m in real_structure(case, spacing))
    voxels = voxel_regions(*maps, Bounds.at((spacing,) * 3, stride))[None]
    finest = cell_regions(voxels, stride)
    assert 20 < int((finest < 6).sum()) < finest.numel() / 2
    two = cell_regions(voxels, stride, Partition.of("none", "one"))
    assert torch.equal(two, (finest >= 6).long())
    shells, thirds = (cell_regions(voxels, stride, Partition.of(structure)) for structure in ("shells", "axis"))
    assert torch.equal(shells < 2, finest < 6)
    assert torch.equal(thirds < 3, finest < 6)
    right = torch.arange(finest.shape[1])[None, :, None, None].expand(finest.shape)
    places = [float(right[thirds == third].float().mean()) for third in range(3)]
    assert places == sorted(places, reverse=True)


PATCHES = 45


@needs_labels
@pytest.mark.parametrize(
    ("spacing", "size", "stride", "cores"),
    [
        (1.5, 96, 2, 0.6),
        (2.0, 64, 2, 0.6),
        (3.0, 48, 1, 0.6),
        (3.0, 48, 2, 0.3),
        (3.0, 64, 2, 0.3),
    ],
)
def test_the_share_of_pancreas_patches_that_fill_each_region(
    spacing: float, size: int, stride: int, cores: float
) -> None:
    """Two of three patches centred on the pancreas, in two real patients: each ring in nine of ten patches that
    hold pancreas, each rim in most; each core in most at cells of 4 mm or less, in three of ten at 6 mm."""
    rng = np.random.default_rng(0)
    bounds = Bounds.at((spacing,) * 3, stride)
    filled = []
    for case in CASES:
        maps = real_structure(case, spacing)
        distance, axis = (np.pad(m.numpy(), size, constant_values=v) for m, v in zip(maps, (100.0, -1.0), strict=True))
        inside = np.argwhere(distance < 0)
        for number in range(PATCHES):
            centre = rng.choice(inside) if number % 3 else rng.integers(size, np.array(distance.shape) - size)
            window = tuple(slice(c - size // 2, c - size // 2 + size) for c in centre.tolist())
            voxels = voxel_regions(torch.from_numpy(distance[window]), torch.from_numpy(axis[window]), bounds)
            present = torch.bincount(cell_regions(voxels[None], stride).flatten(), minlength=9) > 0
            if present[:6].any():
                filled.append(present)
    share = torch.stack(filled).float().mean(0)
    assert len(filled) >= 2 * PATCHES * 2 // 3
    assert all(share[ID[ring]] >= 0.9 for ring in ("near", "mid", "far"))
    assert all(share[ID[f"{third}_rim"]] >= 0.7 for third in ("head", "body", "tail")), share
    assert all(share[ID[f"{third}_core"]] >= cores for third in ("head", "body", "tail")), share
