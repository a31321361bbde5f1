from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from datamodules.augmentation import intensity
from datamodules.augmentation.config import (
    AUGMENTATIONS,
    AugmentationConfig,
    LightConfig,
    NoneConfig,
    StandardConfig,
)
from datamodules.augmentation.pipeline import Augmentation
from datamodules.augmentation.spatial import Deformation, between, draw_deformation, resample, rotation_matrix
from datamodules.batch import OUTSIDE_AXIS, PatchBatch
from datamodules.errors import UsageError
from datamodules.patches import RawPatchBatch

SPACING = (1.0, 1.5, 2.5)
WINDOW = (-100.0, 240.0)
PATCH = (20, 18, 14)
ALWAYS = replace(StandardConfig(), spatial=1.0, intensity=1.0)
ANGLES = st.tuples(*[st.floats(-0.5, 0.5)] * 3)


def _augmentation(config: AugmentationConfig, patch: tuple[int, int, int] = PATCH) -> Augmentation:
    built = AUGMENTATIONS.build(config, seed=1, spacing=SPACING, window=WINDOW, patch_size=patch)
    assert isinstance(built, Augmentation)
    return built


def _ball(shape: tuple[int, ...], radius: float = 12.0) -> tuple[np.ndarray, ...]:
    """A ball of ``radius`` mm amid the array: HU, label, distance in 1/100 mm, and an axis along H."""
    offsets = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, SPACING, strict=True)]
    d, h, w = np.meshgrid(*offsets, indexing="ij")
    distance = np.sqrt(d**2 + h**2 + w**2) - radius
    label = (distance < 0).astype(np.uint8)
    axis = np.where(label == 1, np.clip((h / radius + 1) * 127, 0, 254), 255).astype(np.uint8)
    hu = np.round(np.where(label == 1, 90, -20) + 10 * np.sin(d)).astype(np.int16)
    return hu, label, np.round(np.clip(distance, -100, 100) * 100).astype(np.int16), axis


def _raw(augmentation: Augmentation, keys: list[tuple[int, int]]) -> RawPatchBatch:
    arrays = []
    for key in keys:
        shape = [p + 2 * m for p, m in zip(augmentation.patch_size, augmentation.margin(*key), strict=True)]
        arrays.append([torch.from_numpy(array) for array in _ball(tuple(shape))])
    return RawPatchBatch(*(list(kind) for kind in zip(*arrays, strict=True)), keys, ["a"] * len(keys))


def _augment(config: AugmentationConfig, keys: list[tuple[int, int]]) -> PatchBatch:
    augmentation = _augmentation(config)
    return augmentation(_raw(augmentation, keys))


def test_without_augmentation_the_patch_comes_as_it_is_in_the_units_of_the_network() -> None:
    batch = _augment(NoneConfig(), [(0, 3), (2, 5)])
    hu, label, distance, axis = _ball(PATCH)
    assert batch.image.shape == batch.axis.shape == (2, 1, *PATCH)
    np.testing.assert_allclose(batch.image[1, 0], np.clip((hu + 100) / 340, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(batch.label[1, 0], label)
    np.testing.assert_allclose(batch.distance[1, 0], distance / 100, atol=1e-5)
    np.testing.assert_allclose(batch.axis[1, 0], np.where(axis == 255, OUTSIDE_AXIS, axis / 254), atol=1e-6)
    assert batch.key.tolist() == [[0, 3], [2, 5]]
    assert batch.case == ["a", "a"]
    assert all(tensor.dtype == torch.float32 for tensor in batch[:4])


@pytest.mark.parametrize(
    "config", [replace(ALWAYS, spatial=0.0, intensity=0.0), replace(LightConfig(), spatial=0, intensity=0)]
)
def test_transforms_that_are_never_drawn_change_no_bit(config: LightConfig) -> None:
    keys = [(0, 0), (0, 1)]
    for ours, plain in zip(_augment(config, keys)[:4], _augment(NoneConfig(), keys)[:4], strict=True):
        assert torch.equal(ours, plain)


def test_transforms_without_range_change_no_bit() -> None:
    still = (1.0, 1.0)
    config = LightConfig("light", 1.0, 0.0, still, 0.0, 0.0, 32.0, 1.0, 0.0, (0.0, 0.0), still, still, still, still)
    assert torch.equal(_augment(config, [(0, 0)]).image, _augment(NoneConfig(), [(0, 0)]).image)


@pytest.mark.parametrize("config", [LightConfig(), StandardConfig(), ALWAYS], ids=["light", "standard", "always"])
def test_a_sample_is_drawn_alike_in_any_batch(config: LightConfig) -> None:
    keys = [(0, 4), (0, 5), (1, 0), (1, 1)]
    together = _augment(config, keys)
    for slot, key in enumerate(keys):
        alone = _augment(config, [key])
        for ours, theirs in zip(together[:4], alone[:4], strict=True):
            assert torch.equal(ours[slot], theirs[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_what_a_cpu_draws_and_the_same_bits_each_time() -> None:
    augmentation = _augmentation(replace(ALWAYS, noise=0.0))
    raw = _raw(augmentation, [(0, 0), (0, 1)])
    moved = RawPatchBatch(*([t.cuda() for t in kind] for kind in raw[:4]), raw.key, raw.case)
    first, again, plain = augmentation(moved), augmentation(moved), augmentation(raw)
    assert all(torch.equal(one, two) for one, two in zip(first[:4], again[:4], strict=True))
    torch.testing.assert_close(first.image.cpu(), plain.image, atol=1e-3, rtol=0)
    assert (first.label.cpu() == plain.label).float().mean() > 0.999  # ties of the nearest voxel may fall apart


def test_nothing_depends_on_or_moves_the_global_random_state() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global state is what this is about
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first = _augment(ALWAYS, [(0, 0)])
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(_augment(ALWAYS, [(0, 0)]).image, first.image)


def test_other_keys_draw_otherwise() -> None:
    first, second, third = _augment(ALWAYS, [(0, 0), (0, 1), (1, 0)]).image
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, third)


def test_switching_one_transform_off_leaves_the_others_as_they_were() -> None:
    config = replace(ALWAYS, noise=0.0, coarseness=(1.0, 1.0), blur=(0.0, 0.0), gamma=(1.0, 1.0), contrast=(1.0, 1.0))
    brighter, same = (_augment(replace(config, brightness=value), [(0, 2)]) for value in [(0.7, 0.7), (1.0, 1.0)])
    torch.testing.assert_close(brighter.image, same.image * 0.7)


@settings(max_examples=40, deadline=None)
@given(
    angles=ANGLES,
    scales=st.tuples(*[st.floats(0.7, 1.4)] * 3),
    patch=st.tuples(*[st.integers(5, 12)] * 3),
)
def test_the_sampling_is_that_of_scipy_and_the_margin_shows_no_border(
    angles: tuple[float, float, float], scales: tuple[float, float, float], patch: tuple[int, int, int]
) -> None:
    to_mm = np.diag(SPACING)
    matrix = np.linalg.inv(to_mm) @ rotation_matrix(*angles) @ np.diag(scales) @ to_mm
    deformation = Deformation(matrix)
    shape = tuple(p + 2 * m for p, m in zip(patch, deformation.margin(patch), strict=True))
    generator = np.random.default_rng(0)
    image = generator.random(shape).astype(np.float32)
    ours, _ = resample(torch.from_numpy(image), torch.zeros(1, *shape), deformation, patch)
    offset = (np.array(shape) - 1) / 2 - matrix @ ((np.array(patch) - 1) / 2)
    theirs = ndimage.affine_transform(image, matrix, offset, output_shape=patch, order=1, mode="nearest")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    # Whatever lies beyond the margin never comes into view.
    framed = np.pad(image, 2, constant_values=1e6)
    ours, _ = resample(torch.from_numpy(framed), torch.zeros(1, *framed.shape), deformation, patch)
    assert ours.max() < 100  # a rounding of the coordinates at a face brings in some millionths of it


@given(angles=ANGLES)
def test_rotations_are_rotations(angles: tuple[float, float, float]) -> None:
    matrix = rotation_matrix(*angles)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_rotations_are_made_in_millimetres() -> None:
    # A ball stays a ball although the voxels are two and a half times as long as wide.
    batch = _augment(
        replace(LightConfig(), spatial=1.0, rotation=45.0, zoom=(1, 1), anisotropy=0, intensity=0), [(0, 0)]
    )
    _, label, distance, _ = _ball(PATCH)
    near = np.abs(distance) > 150
    np.testing.assert_array_equal(batch.label[0, 0].numpy()[near], label[near])


@pytest.mark.parametrize("zoom", [0.7, 1.3])
def test_distances_stay_millimetres_under_a_zoom(zoom: float) -> None:
    config = replace(LightConfig(), spatial=1.0, rotation=20.0, zoom=(zoom, zoom), anisotropy=0, intensity=0)
    distance = _augment(config, [(0, 0)]).distance[0, 0].numpy()
    offsets = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(PATCH, SPACING, strict=True)]
    d, h, w = np.meshgrid(*offsets, indexing="ij")
    expected = np.sqrt(d**2 + h**2 + w**2) - 12 * zoom
    assert np.abs(distance - expected).max() < zoom * math.hypot(*SPACING) / 2 + 0.05


@settings(max_examples=25, deadline=None)
@given(epoch=st.integers(0, 3), index=st.integers(0, 1000))
def test_labels_stay_binary_and_the_maps_stay_together(epoch: int, index: int) -> None:
    batch = _augment(ALWAYS, [(epoch, index)])
    assert set(batch.label.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(batch.distance < 0, batch.label == 1)
    assert torch.equal(batch.axis >= 0, batch.label == 1)
    assert torch.equal(batch.axis == OUTSIDE_AXIS, batch.label == 0)
    assert batch.image.min() >= 0
    assert batch.image.max() <= 1
    assert torch.isfinite(batch.image).all()


@settings(max_examples=25, deadline=None)
@given(
    index=st.integers(0, 10**6), patch=st.tuples(*[st.integers(8, 64)] * 3), spacing=st.sampled_from([18.0, 32.0, 60.0])
)
def test_an_elastic_deformation_never_folds(index: int, patch: tuple[int, int, int], spacing: float) -> None:
    config = replace(
        ALWAYS, rotation=0.0, zoom=(1.0, 1.0), anisotropy=0.0, elastic=spacing / 6, elastic_spacing=spacing
    )
    deformation = draw_deformation(config, SPACING, patch, 0, 0, index)
    assert deformation is not None
    shape = tuple(p + 2 * m for p, m in zip(patch, deformation.margin(patch), strict=True))
    ramps = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij"))
    moved = [resample(torch.from_numpy(r), torch.zeros(1, *shape), deformation, patch)[0].numpy() for r in ramps]
    jacobian = np.stack([np.stack(np.gradient(m)) for m in moved])
    assert np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1))).min() > 0


@settings(max_examples=25, deadline=None)
@given(points=st.tuples(*[st.integers(1, 6)] * 3), size=st.tuples(*[st.integers(1, 30)] * 3), seed=st.integers(0, 99))
def test_between_control_points_values_are_trilinear(
    points: tuple[int, int, int], size: tuple[int, int, int], seed: int
) -> None:
    control = torch.rand((3, *points), generator=torch.Generator().manual_seed(seed))
    expected = torch.nn.functional.interpolate(control[None], size=size, mode="trilinear", align_corners=True)[0]
    torch.testing.assert_close(between(control, size), expected, rtol=1e-5, atol=1e-6)


def test_intensities_stay_between_black_and_white() -> None:
    image = _augment(replace(LightConfig(), intensity=1.0, noise=1.0), [(0, index) for index in range(4)]).image
    assert image.min() == 0
    assert image.max() == 1


def test_a_far_distance_stays_far() -> None:
    config = replace(LightConfig(), spatial=1.0, zoom=(0.8, 0.8), intensity=0.0)
    augmentation = _augmentation(config)
    raw = _raw(augmentation, [(0, 0)])
    raw.distance[0].fill_(10_000)
    assert (augmentation(raw).distance == 100).all()


@given(sd=st.floats(0.2, 2.0))
@settings(max_examples=15, deadline=None)
def test_the_blur_is_that_of_scipy(sd: float) -> None:
    image = np.random.default_rng(0).random((9, 12, 7)).astype(np.float32)
    theirs = ndimage.gaussian_filter(image, sd, mode="nearest", radius=math.ceil(3 * sd))
    np.testing.assert_allclose(intensity.blur(torch.from_numpy(image), sd), theirs, atol=1e-5)


def test_the_noise_has_the_standard_deviation_it_is_told() -> None:
    noisy = intensity.noise(torch.zeros(40, 40, 40), 0.2, torch.Generator().manual_seed(0))
    assert noisy.std().item() == pytest.approx(0.2, rel=0.02)


def test_contrast_keeps_the_mean_and_stretches_the_rest() -> None:
    image = torch.rand(8, 8, 8)
    stretched = intensity.contrast(image, 1.4)
    assert stretched.mean().item() == pytest.approx(image.mean().item(), abs=1e-5)
    assert stretched.std().item() == pytest.approx(1.4 * image.std().item(), rel=1e-4)


@given(exponent=st.floats(0.7, 1.5), inverted=st.booleans())
@settings(deadline=None)
def test_gamma_is_monotone_and_keeps_black_and_white(exponent: float, inverted: bool) -> None:
    curve = intensity.gamma(torch.linspace(0, 1, 50), exponent, inverted)
    assert (curve.diff() > 0).all()
    assert curve[[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-6)


def test_a_coarser_grid_loses_detail_and_keeps_what_is_smooth() -> None:
    checks = torch.from_numpy(np.indices((16, 16, 16)).sum(axis=0) % 2).float()
    ramp = torch.linspace(0, 1, 16)[:, None, None].expand(16, 16, 16).contiguous()
    assert intensity.coarsen(checks, 2.0).shape == checks.shape
    assert intensity.coarsen(checks, 2.0).std() < 0.5 * checks.std()
    assert (intensity.coarsen(ramp, 2.0) - ramp).abs().max() < 0.1


def test_light_is_lighter_than_standard() -> None:
    keys = [(0, index) for index in range(24)]
    plain = _augment(NoneConfig(), keys).image
    light, strong = ((_augment(c, keys).image - plain).abs().mean() for c in (LightConfig(), replace(ALWAYS)))
    assert 0 < light < strong


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial": 1.5}, r"data\.augmentation\.spatial must be a probability"),
        ({"rotation": -1.0}, r"data\.augmentation\.rotation must be at least 0"),
        ({"zoom": (1.2, 0.8)}, r"data\.augmentation\.zoom must be two numbers above 0"),
        ({"blur": (2.0, 1.0)}, r"data\.augmentation\.blur must be two numbers from 0"),
        ({"coarseness": (0.5, 1.0)}, r"data\.augmentation\.coarseness must be two numbers from 1"),
        ({"elastic": 9.0}, r"data\.augmentation\.elastic must be at most a sixth"),
    ],
)
def test_ranges_that_cannot_be_drawn_from_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _augmentation(replace(StandardConfig(), **changes))
