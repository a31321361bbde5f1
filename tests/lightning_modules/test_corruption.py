"""Corruption keeps to its cells, to [0, 1] and to its sample's key; each operator does what its name says."""

from __future__ import annotations

import pytest
import torch
from ellipsoid_patches import ellipsoid_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from datamodules.errors import UsageError
from lightning_modules.config import CorruptionConfig
from lightning_modules.regions.cells import CellGrid, random_grid
from lightning_modules.regions.corruption import Corrupted, Corruption
from lightning_modules.regions.draws import Draws
from lightning_modules.regions.operators import Cells
from lightning_modules.regions.operators.registered import OPERATORS

SPACING = (3.0, 3.0, 3.0)
KEY = torch.tensor([[0, 7], [0, 8]])
SHAPE = (12, 13, 14)


def picture(seed: int = 0) -> Tensor:
    return torch.rand(2, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))


def everywhere(grid: CellGrid, near: Tensor | None = None, samples: int = 2) -> Cells:
    voxels = grid.choose(torch.arange(samples * SHAPE[0] * SHAPE[1] * SHAPE[2]))
    near = torch.zeros(2, *grid.size, dtype=torch.bool) if near is None else near
    return Cells(grid, Draws(KEY[:samples], 0, grid, torch.device("cpu")), voxels, near, SPACING)


def altered_by(name: str, image: Tensor, cells: Cells) -> Tensor:
    """The image with an operator's values in all of its voxels."""
    return OPERATORS[name](image, cells).view_as(image)


def plain_grid(edge: int = 4) -> CellGrid:
    return CellGrid([(edge, edge, edge)] * 2, [(1, 0, 3)] * 2, SHAPE, torch.device("cpu"))


def blocks(grid: CellGrid, image: Tensor, sample: int) -> list[Tensor]:
    """The voxels of each cell of a sample, found voxel by voxel."""
    number = torch.arange(grid.voxels[0].numel()).view(1, *grid.size).expand(2, *grid.size)
    cell = grid.spread(number)[sample, 0]
    return [image[sample, 0][cell == n] for n in cell.unique()]


def corrupt(
    config: CorruptionConfig, seed: int = 0, size: int = 24, samples: int = 2
) -> tuple[Tensor, Tensor, Corrupted]:
    batch = ellipsoid_batch(samples, size)
    region = (batch.distance >= -2) & (batch.distance <= 3)
    result = Corruption(config, SPACING, seed)(batch.image, region, batch.distance, batch.key)
    return batch.image, region, result


@settings(max_examples=25, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.5, 6.0)] * 3),
    shape=st.tuples(*[st.integers(4, 20)] * 3),
    seed=st.integers(0, 99),
)
def test_cells_tile_the_patch_and_are_at_least_two_voxels_wide(
    spacing: tuple[float, float, float], shape: tuple[int, int, int], seed: int
) -> None:
    grid = random_grid((6.0, 9.0, 12.0), spacing, shape, KEY, seed, torch.device("cpu"))
    for edges in grid.edges.tolist():
        assert any(
            edges == [min(max(2, round(size / step)), n) for step, n in zip(spacing, shape, strict=True)]
            for size in (6.0, 9.0, 12.0)
        )
    volume = shape[0] * shape[1] * shape[2]
    assert grid.voxels.sum((1, 2, 3)).tolist() == [volume, volume]
    assert (grid.voxels <= grid.edges.prod(1)[:, None, None, None]).all()
    field = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(seed))
    for axis in range(3):
        assert (grid.cell[axis].diff(dim=1) >= 0).all()
    torch.testing.assert_close((grid.mean(field) * grid.voxels).sum((1, 2, 3)), field.sum((1, 2, 3, 4)))
    means = grid.spread(grid.mean(field))
    torch.testing.assert_close(grid.mean(means), grid.mean(field))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), decoys=st.sampled_from([0.0, 0.05, 0.25]))
def test_nothing_outside_the_cells_is_touched_and_the_result_stays_in_the_window(seed: int, decoys: float) -> None:
    image, _, found = corrupt(CorruptionConfig(decoys=decoys), seed)
    assert torch.equal(found.image[~found.mask], image[~found.mask])
    assert found.image.min() >= 0
    assert found.image.max() <= 1
    changed = (found.image != image)[found.mask].float()
    assert not len(changed) or changed.mean() > 0.8


def test_eligible_cells_are_taken_with_their_probability_and_decoys_hold_nothing_of_the_region() -> None:
    config = CorruptionConfig(cells=(9.0,), eligible=0.3, probability=1.0, decoys=0.0)
    image, region, found = corrupt(config)
    grid = random_grid(config.cells, SPACING, (24, 24, 24), torch.tensor([[0, 0], [0, 1]]), 0, image.device)
    share = grid.mean(region.float())
    assert torch.equal(found.mask, grid.spread(share >= 0.3))
    _, _, decoys = corrupt(CorruptionConfig(cells=(9.0,), probability=0.0, decoys=1.0))
    assert torch.equal(decoys.mask, grid.spread((share == 0) & (grid.voxels > 0)))
    taken = [
        corrupt(CorruptionConfig(cells=(9.0,), decoys=0.0), seed)[2].mask.sum() / max(1, n)
        for seed in range(12)
        if (n := int(corrupt(config, seed)[2].mask.sum()))
    ]
    assert 0.4 < torch.stack(taken).mean() < 0.6


def test_no_region_and_no_decoys_leave_the_image_as_it_is() -> None:
    image = picture()
    nothing = torch.zeros_like(image, dtype=torch.bool)
    found = Corruption(CorruptionConfig(decoys=0.0), SPACING, 0)(image, nothing, torch.full_like(image, 100), KEY)
    assert not found.mask.any()
    assert torch.equal(found.image, image)


def test_a_sample_is_corrupted_alike_in_any_batch() -> None:
    batch = ellipsoid_batch(4, 24)
    corruption = Corruption(CorruptionConfig(decoys=0.25), SPACING, 0)
    region = batch.distance.abs() < 3
    together = corruption(batch.image, region, batch.distance, batch.key)
    order = [2, 0]
    apart = corruption(batch.image[order], region[order], batch.distance[order], batch.key[order])
    assert torch.equal(together.mask[order], apart.mask)
    torch.testing.assert_close(together.image[order], apart.image)
    other_epoch = corruption(batch.image, region, batch.distance, batch.key + torch.tensor([1, 0]))
    assert not torch.equal(together.mask, other_epoch.mask)


def test_the_operators_of_the_configuration_alone_are_used_and_by_their_weights() -> None:
    image, _, found = corrupt(CorruptionConfig(operators={"remap": 2.0, "blur": 0.0}, decoys=0.5))
    for sample in range(2):
        # A monotone curve of the cell keeps order, whatever the cell; any other operator would break it.
        grid = random_grid((6.0, 9.0, 12.0), SPACING, (24, 24, 24), torch.tensor([[0, 0], [0, 1]]), 0, image.device)
        number = grid.spread(torch.arange(grid.voxels[0].numel()).view(1, *grid.size).expand(2, *grid.size))
        for n in number[sample][found.mask[sample]].unique()[:40]:
            cell = number[sample] == n
            assert (found.image[sample][cell][image[sample][cell].argsort()].diff() >= -1e-6).all()


@pytest.mark.parametrize("alike", [0.0, 1.0])
def test_cells_that_are_alike_share_a_sample_s_curve(alike: float) -> None:
    config = CorruptionConfig(operators={"remap": 1.0}, probability=1.0, decoys=1.0, eligible=0.0, alike=alike)
    image, _, found = corrupt(config)
    kept = []
    for before, after, mask in zip(image, found.image, found.mask, strict=True):
        order = before[mask].argsort()
        kept.append(bool((after[mask][order].diff() >= -1e-6).all()))
    assert kept == [bool(alike)] * 2, "one curve keeps the order of all grey values, many do not"
    assert (found.image[0] - image[0])[found.mask[0]].mean() != (found.image[1] - image[1])[found.mask[1]].mean()


def test_half_precision_images_come_back_in_half_precision_and_finite() -> None:
    batch = ellipsoid_batch(2, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = Corruption(CorruptionConfig(decoys=1.0), SPACING, 0)(
            batch.image.bfloat16(), batch.distance < 3, batch.distance, batch.key
        )
    assert found.image.dtype == torch.bfloat16
    assert found.image.isfinite().all()


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (CorruptionConfig(operators={"shufle": 1.0}), "operators: there is no operator shufle"),
        (CorruptionConfig(operators={"blur": 0.0}), "operators"),
        (CorruptionConfig(operators={"blur": 1.0, "noise": -1.0}), "operators"),
        (CorruptionConfig(cells=()), "cells"),
        (CorruptionConfig(cells=(6.0, -1.0)), "cells"),
    ],
)
def test_settings_that_can_corrupt_nothing_are_refused_by_key(config: CorruptionConfig, key: str) -> None:
    with pytest.raises(UsageError, match=rf"model\.restoration\.corruption\.{key}"):
        Corruption(config, SPACING, 0)


def test_every_operator_of_the_defaults_exists_and_the_other_way_round() -> None:
    assert set(CorruptionConfig().operators) == set(OPERATORS)


def test_shuffle_permutes_within_the_cells() -> None:
    image, grid = picture(), plain_grid(5)
    shuffled = altered_by("shuffle", image, everywhere(grid))
    assert (shuffled != image).float().mean() > 0.7
    for sample in range(2):
        for before, after in zip(blocks(grid, image, sample), blocks(grid, shuffled, sample), strict=True):
            assert torch.equal(before.sort().values, after.sort().values)


def test_shuffle_moves_a_voxel_no_farther_than_a_small_block() -> None:
    place = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in SHAPE], indexing="ij"))
    grid = plain_grid(9)
    for axis in range(3):
        image = place[axis].expand(2, 1, *SHAPE)
        assert (altered_by("shuffle", image, everywhere(grid)) - image).abs().max() <= 2


def test_remap_keeps_order_and_both_ends() -> None:
    grid = plain_grid(4)
    ramp = torch.linspace(0, 1, 2 * 12 * 13 * 14).view(2, 1, *SHAPE)
    ends = torch.zeros_like(ramp)
    ends[..., ::2] = 1
    remapped = altered_by("remap", ramp, everywhere(grid))
    for sample in range(2):
        for before, after in zip(blocks(grid, ramp, sample), blocks(grid, remapped, sample), strict=True):
            assert (after[before.argsort()].diff() >= -1e-6).all()
    assert (remapped - ramp).abs().max() > 0.1
    torch.testing.assert_close(altered_by("remap", ends, everywhere(grid)), ends)


def test_blur_is_a_gaussian_equally_wide_in_mm() -> None:
    grid = plain_grid()
    spacing = (1.0, 2.0, 4.0)
    point = torch.zeros(2, 1, *SHAPE)
    point[:, :, 6, 6, 7] = 1
    cells = everywhere(grid)._replace(spacing=spacing)
    blurred = altered_by("blur", point, cells)
    width = 0.7 + 1.3 * cells.draws.per_sample("blur", 1)
    for sample in range(2):
        sigma = [float(width[sample]) / step for step in spacing]
        expected = torch.tensor(gaussian_filter(point[sample, 0].double().numpy(), sigma, truncate=20, mode="constant"))
        torch.testing.assert_close(blurred[sample, 0].double(), expected, atol=0.02 * float(expected.max()), rtol=0)
    flat = torch.full((2, 1, *SHAPE), 0.3)
    torch.testing.assert_close(altered_by("blur", flat, everywhere(grid)), flat)


def test_noise_has_mean_zero_and_a_strength_of_its_cell() -> None:
    grid = plain_grid(6)
    added = altered_by("noise", torch.zeros(2, 1, *SHAPE), everywhere(grid))
    assert abs(float(added.mean())) < 0.01
    full = [float(b.std()) for s in range(2) for b in blocks(grid, added, s) if len(b) == 216]
    assert min(full) > 0.01
    assert max(full) < 0.2
    assert max(full) > 1.5 * min(full)


def test_inpaint_leaves_the_cells_mean_or_noise_about_it() -> None:
    image, grid = picture(), plain_grid(4)
    painted = altered_by("inpaint", image, everywhere(grid))
    flat, noisy = 0, 0
    for sample in range(2):
        for before, after in zip(blocks(grid, image, sample), blocks(grid, painted, sample), strict=True):
            if len(after) < 30:
                continue
            if after.std() < 1e-6:
                torch.testing.assert_close(after.mean(), before.mean())
                flat += 1
            else:
                assert abs(after.mean() - before.mean()) < 4 * before.std() / len(after) ** 0.5
                noisy += 1
    assert flat > 3
    assert noisy > 3


@pytest.mark.parametrize("has_near", [True, False])
def test_swap_takes_whole_cells_of_the_near_ring(has_near: bool) -> None:
    image, grid = picture(), plain_grid(4)
    near = torch.zeros(2, *grid.size, dtype=torch.bool)
    if has_near:
        near[0, 1, 1, 1] = near[0, 2, 1, 1] = near[1, 1, 2, 2] = True
    allowed = near if has_near else (grid.voxels > 0)
    swapped = altered_by("swap", image, everywhere(grid, near))
    donors = [
        [b for b, n in zip(blocks(grid, image, s), _near_of_blocks(grid, allowed, s), strict=True) if n]
        for s in range(2)
    ]
    for sample in range(2):
        whole = [b for b in blocks(grid, swapped, sample) if len(b) == 64]
        assert whole
        for cell in whole:
            full = [d for d in donors[sample] if len(d) == 64]
            if has_near:
                assert any(torch.equal(cell, donor) for donor in full)
            else:
                known = torch.cat(donors[sample])
                assert torch.isin(cell, known).all()


def _near_of_blocks(grid: CellGrid, allowed: Tensor, sample: int) -> list[bool]:
    return [bool(b.any()) for b in blocks(grid, grid.spread(allowed).float(), sample)]


def test_random_conv_changes_texture_but_not_flat_tissue() -> None:
    grid = plain_grid()
    flat = torch.full((2, 1, *SHAPE), 0.6)
    torch.testing.assert_close(altered_by("random_conv", flat, everywhere(grid)), flat)
    image = picture()
    altered = altered_by("random_conv", image, everywhere(grid))
    assert (altered - image).abs().mean() > 0.1
    again = altered_by("random_conv", image[:1], everywhere(grid, samples=1))
    torch.testing.assert_close(altered[:1], again)


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - {"inpaint", "noise", "shuffle"}))
def test_an_operator_that_draws_nothing_for_voxels_says_of_few_what_it_says_of_them_among_all(name: str) -> None:
    image, grid = picture(), plain_grid(4)
    near = torch.zeros(2, *grid.size, dtype=torch.bool)
    near[:, 1, 1, 1] = True
    whole = altered_by(name, image, everywhere(grid, near))
    number = grid.spread(torch.arange(grid.voxels.numel()).view(2, *grid.size))
    chosen = (number % 7 == 0).flatten().nonzero().squeeze(1)
    few = OPERATORS[name](image, everywhere(grid, near)._replace(voxels=grid.choose(chosen)))
    torch.testing.assert_close(few, whole.flatten()[chosen])


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_says_of_a_sample_what_it_says_of_it_beside_another(name: str) -> None:
    image, grid = picture(), plain_grid(4)
    cells = everywhere(grid, torch.ones(2, *grid.size, dtype=torch.bool))
    alone = cells._replace(voxels=cells.voxels.among(cells.voxels.sample == 1))
    assert torch.equal(OPERATORS[name](image, alone), altered_by(name, image, cells)[1].flatten())
