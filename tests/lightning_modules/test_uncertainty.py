"""Entropy in its stable form, and M: a fixed share of the candidates, never a voxel beyond them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.randomness import torch_generator
from lightning_modules.regions.candidates import choose_region, region_shares, score
from lightning_modules.regions.uncertainty import entropy


def test_entropy_is_shannons_in_bits() -> None:
    logits = torch.linspace(-20, 20, 401, dtype=torch.float64)
    p = logits.sigmoid()
    expected = torch.special.entr(p) + torch.special.entr((-logits).sigmoid())
    torch.testing.assert_close(entropy(logits), expected / torch.log(torch.tensor(2.0, dtype=torch.float64)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_entropy_of_extreme_logits_is_no_nan(dtype: torch.dtype) -> None:
    logits = torch.tensor([0.0, 6e4, -6e4, torch.inf, -torch.inf, 1e-7]).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = entropy(logits)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.tensor([1.0, 0, 0, 0, 0, 1.0]))


@settings(max_examples=40, deadline=None)
@given(
    share=st.floats(0.01, 1.0),
    reach=st.floats(-5.0, 30.0),
    levels=st.sampled_from([1, 3, 1000]),
    seed=st.integers(0, 10),
)
def test_region_is_the_fixed_share_of_the_candidates_with_the_highest_scores(
    share: float, reach: float, levels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    distance = 40 * torch.rand(2, 1, 6, 7, 8, generator=generator) - 10
    scores = torch.randint(levels, (2, 1, 6, 7, 8), generator=generator).float()
    region = choose_region(scores, distance, reach, share, torch.tensor([[0, 4], [1, 5]]), seed)
    for sample in range(2):
        candidates = distance[sample] <= reach
        inside = region[sample]
        count = int(candidates.sum())
        assert not (inside & ~candidates).any()
        assert int(inside.sum()) == (max(1, round(share * count)) if count else 0)
        left = scores[sample][candidates & ~inside]
        if inside.any() and len(left):
            assert scores[sample][inside].min() >= left.max()
        # The same voxels as the first of all candidates, shuffled by the sample's key and then sorted stably.
        voxels = candidates.flatten().nonzero().squeeze(1)
        order = torch.randperm(count, generator=torch_generator(seed, sample, 4 + sample, "region"))
        order = order[scores[sample].flatten()[voxels[order]].sort(descending=True, stable=True).indices]
        first = voxels[order[: int(inside.sum())]].sort().values
        assert torch.equal(inside.flatten().nonzero().squeeze(1), first)


def test_ties_are_decided_alike_in_any_batch_and_otherwise_at_random() -> None:
    distance = torch.zeros(3, 1, 8, 8, 8)
    key = torch.tensor([[0, 4], [0, 5], [1, 4]])
    region = choose_region(torch.zeros_like(distance), distance, 15, 0.2, key, seed=0)
    alone = choose_region(torch.zeros(1, 1, 8, 8, 8), distance[:1], 15, 0.2, key[1:2], seed=0)
    assert torch.equal(region[1], alone[0])
    assert not torch.equal(region[0], region[1])
    assert not torch.equal(region[0], region[2])
    # Not the first voxels in memory: these would be one corner of the patch.
    assert region[0].flatten()[: int(region[0].sum())].float().mean() < 0.5


def test_the_band_raises_the_score_from_minus_2_to_3_mm() -> None:
    distance = torch.tensor([-2.01, -2.0, 0.0, 3.0, 3.01]).view(1, 1, 1, 1, 5)
    found = score(torch.full_like(distance, 0.25), distance, 0.5).flatten()
    torch.testing.assert_close(found, torch.tensor([0.25, 0.75, 0.75, 0.75, 0.25]))


def test_shares_of_the_region_are_counted_per_sample() -> None:
    distance = torch.tensor([-1.0, 10.0, 10.0, -5.0]).expand(3, 1, 1, 1, 4)
    region = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).bool().view(3, 1, 1, 1, 4)
    found = region_shares(region, distance)
    torch.testing.assert_close(found["inside"], torch.tensor((1 / 2 + 1 / 3 + 0) / 3))
    torch.testing.assert_close(found["outside"], torch.tensor((1 / 2 + 2 / 3 + 0) / 3))
    torch.testing.assert_close(found["band_excess"], torch.tensor((1 / 2 + 1 + 0) / 3))
