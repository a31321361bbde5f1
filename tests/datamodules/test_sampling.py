from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.errors import UsageError
from datamodules.sampling import Place, PositionSampler, Share, Stream, StridedSampler, patch_centre

SHARES = st.floats(2 / 3, 1.0)


def test_an_epoch_is_a_permutation_of_the_cases_and_the_next_one_another() -> None:
    stream = Stream(seed=3, cases=7, batch_size=2, foreground=2 / 3)
    places = [stream.place(position) for position in range(21)]
    epochs = [[place.case for place in places[start : start + 7]] for start in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [(place.epoch, place.index) for place in places[6:8]] == [(0, 6), (1, 0)]


def test_another_seed_gives_another_order() -> None:
    orders = [
        [Stream(seed, cases=20, batch_size=2, foreground=1.0).place(p).case for p in range(20)] for seed in (0, 1)
    ]
    assert orders[0] != orders[1]


@given(share=SHARES, batch_size=st.integers(2, 9), first=st.integers(0, 10**7))
def test_the_share_of_pancreas_patches_holds_and_every_batch_has_one(share: float, batch_size: int, first: int) -> None:
    stream = Stream(seed=0, cases=5, batch_size=batch_size, foreground=share)
    batch = [stream.place(first * batch_size + slot).foreground for slot in range(batch_size)]
    assert any(batch)
    run = [stream.place(position).foreground for position in range(300)]
    assert all(sum(run[: n + 1]) >= (2 / 3) * (n + 1) - 1e-9 for n in range(300))
    assert abs(np.mean(run) - share) < 0.01


def test_batches_of_one_are_all_centred_on_the_pancreas() -> None:
    stream = Stream(seed=0, cases=5, batch_size=1, foreground=2 / 3)
    assert all(stream.place(position).foreground for position in range(50))


@pytest.mark.parametrize("share", [0.5, 1.2])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"data\.sampling.foreground must lie between 2/3 and 1"):
        Stream(seed=0, cases=1, batch_size=1, foreground=share)


def test_a_source_without_training_cases_is_refused() -> None:
    with pytest.raises(UsageError, match="no case to train on"):
        Stream(seed=0, cases=0, batch_size=1, foreground=1.0)


@given(ranks=st.integers(1, 4), accumulate=st.integers(1, 3), local=st.integers(1, 3), step=st.integers(0, 99))
def test_the_global_batch_is_the_same_for_any_ranks_and_accumulation(
    ranks: int, accumulate: int, local: int, step: int
) -> None:
    size = ranks * accumulate * local
    seen = [
        position
        for rank in range(ranks)
        for micro in range(accumulate)
        for position in Share(size, accumulate, rank, ranks).positions(step * accumulate + micro)
    ]
    assert sorted(seen) == list(range(step * size, (step + 1) * size))


def test_a_batch_that_cannot_be_shared_out_is_refused_with_the_numbers() -> None:
    with pytest.raises(UsageError, match="8 is not divisible by 3 ranks × 2 accumulated batches"):
        Share(8, accumulate=2, rank=0, ranks=3)


def test_the_sampler_goes_on_after_the_finished_batches_and_tells_the_length_of_the_run() -> None:
    share = Share(4, accumulate=2, rank=0, ranks=1)
    whole = list(PositionSampler(share, batches=10))
    rest = PositionSampler(share, batches=10, finished=3)
    assert list(rest) == whole[3 * share.local :]
    assert len(rest) == len(whole) == 20


@given(items=st.integers(0, 12), ranks=st.integers(1, 5))
def test_each_volume_falls_to_exactly_one_rank(items: int, ranks: int) -> None:
    samplers = [StridedSampler(items, rank, ranks) for rank in range(ranks)]
    assert sorted(index for sampler in samplers for index in sampler) == list(range(items))
    assert {len(sampler) for sampler in samplers} == {max(len(list(sampler)) for sampler in samplers)}
    busy = [list(StridedSampler(items, rank, ranks, idle=False)) for rank in range(ranks)]
    assert busy[:items] == [list(sampler) for sampler in samplers][:items]
    assert all(len(share) == 1 for share in busy[items:]) or not items


def _uneven_pancreas() -> np.ndarray:
    # 900 voxels of head, 90 of body, 10 of tail, told apart by their first coordinate.
    third = np.repeat([0, 1, 2], [900, 90, 10])
    return np.stack([third * 10, np.arange(1000), np.arange(1000), third], axis=1).astype(np.int32)


def test_head_body_and_tail_are_centred_on_equally_often() -> None:
    foreground = _uneven_pancreas()
    thirds = [patch_centre(Place(0, index, 0, True), 0, (30, 1000, 1000), foreground)[0] // 10 for index in range(600)]
    counts = np.bincount(thirds, minlength=3)
    assert counts.min() > 160
    assert counts.max() < 240


@settings(max_examples=30)
@given(epoch=st.integers(0, 5), index=st.integers(0, 50), on_pancreas=st.booleans())
def test_a_centre_is_a_voxel_of_the_pancreas_or_of_the_volume_and_depends_on_the_key_alone(
    epoch: int, index: int, on_pancreas: bool
) -> None:
    foreground, shape = _uneven_pancreas(), (30, 1000, 1000)
    centre = patch_centre(Place(epoch, index, 0, on_pancreas), 7, shape, foreground)
    assert centre == patch_centre(Place(epoch, index, 1, on_pancreas), 7, shape, foreground)
    assert all(0 <= c < n for c, n in zip(centre, shape, strict=True))
    if on_pancreas:
        assert (foreground[:, :3] == centre).all(axis=1).any()


def test_other_patches_fill_the_whole_volume() -> None:
    centres = np.array([patch_centre(Place(0, index, 0, False), 0, (40, 60, 80), None) for index in range(500)])
    assert (centres.min(axis=0) < [4, 6, 8]).all()
    assert (centres.max(axis=0) >= [36, 54, 72]).all()
    np.testing.assert_allclose(centres.mean(axis=0), [19.5, 29.5, 39.5], rtol=0.1)
