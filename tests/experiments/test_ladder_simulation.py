"""Simulated acquisitions: level 0 is the image itself, and each factor does what it says and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datamodules.acquisition import THICK
from experiments.ladder.plan import Rung
from experiments.ladder.simulation import (
    FACTORS,
    MARGIN_MM,
    NOISE_HU,
    SHIFT_HU,
    simulate,
    slab_weights,
)
from tests.datamodules.ct_files import affines

NAMES = [factor.name for factor in FACTORS]
levels = st.floats(0.01, 1.0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tio.ScalarImage, NDArray[np.uint8]]:
    """A small volume of noise in any orientation, and an organ's box in it."""
    shape = draw(st.tuples(*[st.integers(6, 22)] * 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    hu = generator.normal(40, 100, (1, *shape)).astype(np.float32)
    label = np.zeros(shape, dtype=np.uint8)
    low = [draw(st.integers(0, size - 1)) for size in shape]
    high = [draw(st.integers(start + 1, size)) for start, size in zip(low, shape, strict=True)]
    label[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return tio.ScalarImage(tensor=torch.from_numpy(hu), affine=draw(affines())), label


@settings(max_examples=15)
@given(cases(), st.sampled_from(NAMES), levels)
def test_level_0_is_the_image_itself_and_no_level_alters_what_it_is_given(
    case: tuple[tio.ScalarImage, NDArray[np.uint8]], factor: str, level: float
) -> None:
    image, label = case
    before, matrix, mask = image.data.clone(), image.affine.copy(), label.copy()
    state = torch.random.get_rng_state()
    assert simulate(image, label, "a", Rung(factor, 0.0)) is image
    simulate(image, label, "a", Rung(factor, level))
    assert torch.equal(image.data, before)
    assert np.array_equal(image.affine, matrix)
    assert np.array_equal(label, mask)
    assert torch.equal(torch.random.get_rng_state(), state), "nobody else's draws are disturbed"


@given(st.integers(1, 60), st.integers(1, 60))
def test_thick_slices_are_made_of_all_thin_ones_alike(thin: int, thick: int) -> None:
    weights = slab_weights(thin, thick)
    assert weights.shape == (thick, thin)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights.sum(axis=0), thick / thin)


@settings(max_examples=30)
@given(cases(), levels)
def test_slice_thickness_keeps_the_mean_and_the_length_and_leaves_the_plane_alone(
    case: tuple[tio.ScalarImage, NDArray[np.uint8]], level: float
) -> None:
    image, label = case
    thick = simulate(image, label, "a", Rung("slice_thickness", level))
    assert float(thick.data.double().mean()) == pytest.approx(float(image.data.double().mean()), abs=1e-3)
    # Across the body and no other way: the axis that runs most along the scanner's.
    axis = int(np.abs(image.affine[2, :3] / np.array(image.spacing)).argmax())
    for other in range(3):
        if other != axis:
            assert thick.spatial_shape[other] == image.spatial_shape[other]
    for corner in ((0, 0, 0), (1, 1, 1)):  # outer faces, half a voxel beyond the centres
        ends = [
            each.affine[:3, :3] @ (np.array(corner) * each.spatial_shape - 0.5) + each.affine[:3, 3]
            for each in (image, thick)
        ]
        np.testing.assert_allclose(ends[0], ends[1], atol=1e-4)
    thin = image.spacing[axis]
    wanted = max(thin, thin + level * (THICK - thin))
    assert thick.spacing[axis] == pytest.approx(wanted, rel=0.51) or thick.spatial_shape[axis] == 1


@settings(max_examples=30)
@given(cases(), levels)
def test_a_crop_keeps_the_organ_and_moves_no_voxel(
    case: tuple[tio.ScalarImage, NDArray[np.uint8]], level: float
) -> None:
    image, label = case
    cropped = simulate(image, label, "a", Rung("crop", level))
    offset = np.linalg.inv(image.affine) @ cropped.affine[:, 3]
    first = offset[:3].round().astype(int)
    np.testing.assert_allclose(offset[:3], first, atol=1e-4)
    inside = tuple(slice(a, a + n) for a, n in zip(first, cropped.spatial_shape, strict=True))
    assert torch.equal(cropped.data[0], image.data[0][inside])
    assert label[inside].sum() == label.sum()
    for axis in range(3):  # what is cut was farther from the organ than the margin
        held = np.flatnonzero(label.any(axis=tuple(other for other in range(3) if other != axis)))
        if first[axis] > 0:
            assert (held[0] - first[axis]) * image.spacing[axis] >= MARGIN_MM - 1e-3


@settings(max_examples=15)
@given(cases(), levels)
def test_hu_are_shifted_by_as_much_as_the_level_says(
    case: tuple[tio.ScalarImage, NDArray[np.uint8]], level: float
) -> None:
    image, label = case
    difference = simulate(image, label, "a", Rung("hu_shift", level)).data - image.data
    np.testing.assert_allclose(difference.abs(), SHIFT_HU * level, rtol=1e-3)
    assert len(difference.sign().unique()) == 1


def test_some_cases_are_shifted_up_and_others_down() -> None:
    image, label = _plain(0.0)
    signs = {float(simulate(image, label, f"c{n}", Rung("hu_shift", 1.0)).data.sign()[0, 0, 0, 0]) for n in range(12)}
    assert signs == {-1.0, 1.0}


def test_noise_grows_with_the_level_and_is_a_cases_own() -> None:
    image, label = _plain(50.0)
    full, half, other = (
        simulate(image, label, case, Rung("noise", level)).data - 50
        for case, level in (("a", 1.0), ("a", 0.5), ("b", 1.0))
    )
    assert float(full.std()) == pytest.approx(NOISE_HU, rel=0.05)
    torch.testing.assert_close(half, full / 2, atol=1e-3, rtol=0)
    assert abs(float(torch.corrcoef(torch.stack([full.ravel(), other.ravel()]))[0, 1])) < 0.1
    assert torch.equal(full, simulate(image, label, "a", Rung("noise", 1.0)).data - 50), "whatever was drawn between"


def test_blur_smooths_an_edge_by_the_level_and_leaves_what_is_even() -> None:
    image, label = _plain(50.0)
    torch.testing.assert_close(simulate(image, label, "a", Rung("blur", 1.0)).data, image.data)
    edged = tio.ScalarImage(
        tensor=torch.where(torch.arange(20)[None, :, None, None] < 10, 0.0, 100.0).expand(1, 20, 20, 20)
    )
    widths = [
        float(simulate(edged, label, "a", Rung("blur", level)).data[0, :, 10, 10].diff().max())
        for level in (0.1, 0.5, 1.0)
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.2 * 100


def _plain(hu: float) -> tuple[tio.ScalarImage, NDArray[np.uint8]]:
    return tio.ScalarImage(tensor=torch.full((1, 20, 20, 20), hu)), np.ones((20, 20, 20), dtype=np.uint8)
