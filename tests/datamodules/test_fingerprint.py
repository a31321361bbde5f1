"""A scan is known again by its voxels however it was turned and saved; a digest sees every change."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from ct_files import abdomen
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datamodules.fingerprint import digest, fingerprint

ORDERS = list(permutations(range(3)))


def _turned(array: np.ndarray, order: tuple[int, ...], flips: list[bool]) -> np.ndarray:
    return array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)].transpose(order)


@given(
    arrays(np.int16, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(-1024, 3071)),
    st.sampled_from(ORDERS),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
@settings(max_examples=200)
def test_none_of_the_48_ways_to_store_a_volume_changes_its_fingerprint(
    hu: np.ndarray, order: tuple[int, ...], flips: list[bool]
) -> None:
    profiles = [hu.sum(axis=tuple(k for k in range(3) if k != axis)).tolist() for axis in range(3)]
    ambiguous = any(p == p[::-1] and len(p) > 1 for p in profiles) or any(
        sorted([a, a[::-1]]) == sorted([b, b[::-1]]) for a, b in [profiles[:2], profiles[1:], profiles[::2]]
    )
    if not ambiguous:  # a volume that is its own mirror image in every sum is no scan
        assert fingerprint(_turned(hu, order, flips)) == fingerprint(hu)


@pytest.mark.parametrize("kind", [np.int32, np.float32, np.float64])
def test_the_type_of_the_voxels_does_not_matter(kind: type) -> None:
    hu = abdomen()[0]
    assert fingerprint(hu.astype(kind)) == fingerprint(hu)
    assert digest(hu.astype(kind)) == digest(hu)
    assert fingerprint(hu * 1.0 + 0.01) == fingerprint(hu)


def test_two_scans_and_a_single_changed_voxel_are_told_apart() -> None:
    hu = abdomen(0)[0]
    other = hu.copy()
    other[20, 20, 10] += 1
    assert len({fingerprint(volume) for volume in (hu, other, abdomen(1)[0])}) == 3


def test_a_digest_sees_values_shape_order_and_what_is_missing() -> None:
    hu, label = abdomen()
    parts = [
        (hu, label), (label, hu), (hu,), (hu, None), (hu[::-1], label), (hu.reshape(-1, 36, 12), label),
        (hu, (label == 7).astype(np.uint8)),
    ]  # fmt: skip
    assert len({digest(*part) for part in parts}) == len(parts)
    assert digest(hu, label) == digest(np.asfortranarray(hu), label.copy())
