"""Slots: fixed in number, true to their region, drawn by key."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_modules.regions.sampling import Slots, draw_slots, keyed_draws

SLOTS = (16,) * 6 + (96, 64, 32)
OWNER = torch.arange(9).repeat_interleave(torch.tensor(SLOTS))


def draw(regions: Tensor, uncertainty: Tensor | None = None, epoch: int = 0, slots: tuple[int, ...] = SLOTS) -> Slots:
    key = torch.stack([torch.full((len(regions),), epoch), torch.arange(len(regions))], 1)
    draws = keyed_draws(key, 0, regions.shape[1], regions.device)
    return draw_slots(regions, torch.full(regions.shape, 0.5) if uncertainty is None else uncertainty, slots, draws)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cells=st.sampled_from([1, 7, 64, 512, 4096]),
    kinds=st.integers(1, 9),
    certain=st.booleans(),
)
def test_slots_are_distinct_cells_of_their_region_as_many_as_there_are(
    seed: int, cells: int, kinds: int, certain: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    names = torch.randperm(9, generator=generator)[:kinds]
    regions = names[torch.randint(kinds, (2, cells), generator=generator)]
    uncertainty = torch.zeros(2, cells) if certain else torch.rand(2, cells, generator=generator)
    slots = draw(regions, uncertainty)
    assert slots.cell.shape == slots.valid.shape == (2, 288)
    for b in range(2):
        for region, count in enumerate(SLOTS):
            chosen = slots.cell[b][(region == OWNER) & slots.valid[b]]
            assert (regions[b, chosen] == region).all()
            assert len(chosen.unique()) == len(chosen) == min(count, int((regions[b] == region).sum()))


def test_an_odd_and_an_absent_number_of_slots() -> None:
    slots = draw(torch.zeros(1, 9, dtype=torch.long), slots=(5, 0, 3))
    assert slots.valid.tolist() == [[True] * 5 + [False] * 3]
    assert len(slots.cell[0, :5].unique()) == 5


def test_half_the_slots_follow_uncertainty_and_half_do_not() -> None:
    regions = torch.full((200, 4000), 6)
    uncertain = torch.zeros(200, 4000)
    uncertain[:, :400] = 1.0
    slots = draw(regions, uncertain)
    rings = slots.cell[:, OWNER == 6] < 400
    uniform, weighted = rings[:, :48].float().mean(), rings[:, 48:].float().mean()
    assert uniform == pytest.approx(0.1, abs=0.01)
    assert weighted > 0.95


def test_the_weighted_draw_is_proportional_to_uncertainty() -> None:
    regions = torch.zeros(3000, 1000, dtype=torch.long)
    uncertainty = torch.full((3000, 1000), 0.2)
    uncertainty[:, 500:] = 0.6
    weighted = draw(regions, uncertainty, slots=(2,)).cell[:, 1]
    assert (weighted >= 500).float().mean() == pytest.approx(0.75, abs=0.03)


def test_a_sample_is_drawn_alike_in_any_batch_and_otherwise_in_another_epoch() -> None:
    key = torch.tensor([[3, 5], [0, 1], [3, 6]])
    generator = torch.Generator().manual_seed(0)
    regions = torch.randint(9, (3, 2048), generator=generator)
    uncertainty = torch.rand(3, 2048, generator=generator)

    def drawn(rows: list[int], seed: int = 0, epochs: int = 0) -> Slots:
        moved = key[rows] + torch.tensor([epochs, 0])
        draws = keyed_draws(moved, seed, 2048, torch.device("cpu"))
        return draw_slots(regions[rows], uncertainty[rows], SLOTS, draws)

    together, alone, turned = drawn([0, 1, 2]), drawn([1]), drawn([2, 1, 0])
    assert torch.equal(together.cell[1], alone.cell[0])
    assert torch.equal(together.cell, turned.cell.flip(0))
    assert not torch.equal(together.cell, drawn([0, 1, 2], seed=1).cell)
    assert not torch.equal(together.cell, drawn([0, 1, 2], epochs=1).cell)


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    draw(torch.zeros(2, 64, dtype=torch.long))
    assert torch.equal(torch.random.get_rng_state(), before)
