"""The rivals that are augmentations: bounded, finite, keyed by the sample, and what their papers say of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import GaussianSharpen
from torch import Tensor

from datamodules.augmentation import bigaug as stack
from datamodules.augmentation.base import AUGMENTATIONS, AugmentationConfig, LightConfig, NoneConfig
from datamodules.augmentation.config import BigAugConfig, CutMixConfig, GINConfig, RandConvConfig, SLAugConfig
from datamodules.augmentation.cutmix import cutmix, draw_box
from datamodules.augmentation.draws import Draws
from datamodules.augmentation.location_scale import bezier, slaug
from datamodules.augmentation.pipeline import Augmentation
from datamodules.augmentation.random_networks import blend, gin, randconv, random_network, squeezed
from datamodules.batch import OUTSIDE_AXIS, PatchBatch
from datamodules.patches import RawPatchBatch

PATCH = (20, 18, 14)
KEYS = [(0, 4), (0, 5), (1, 0)]
STILL = {"spatial": 0.0, "intensity": 0.0}
PER_SAMPLE: list[AugmentationConfig] = [
    BigAugConfig(spatial=1.0, intensity=1.0),
    GINConfig(),
    GINConfig(views=2),
    RandConvConfig(views=2),
    RandConvConfig(mix=False, keep=0.5),
    SLAugConfig(),
    SLAugConfig(views=2, inversion=1.0),
]


def augment(config: AugmentationConfig, keys: list[tuple[int, int]]) -> PatchBatch:
    built: Augmentation = AUGMENTATIONS.build(
        config, seed=1, spacing=(2.0, 2.0, 3.0), window=(-100.0, 240.0), patch_size=PATCH
    )
    raw = []
    for epoch, index in keys:
        shape = [p + 2 * m for p, m in zip(PATCH, built.margin(epoch, index), strict=True)]
        grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
        distance = np.sqrt((grid**2).sum(0)) - 5
        inside = distance < 0
        hu = 60 * inside - 40 + 80 * np.sin(grid[0] + index)
        axis = np.where(inside, np.clip(grid[1] * 20 + 127, 0, 254), 255)
        parts = (hu.round().astype(np.int16), inside.astype(np.uint8), (distance * 100).astype(np.int16))
        raw.append([*map(torch.from_numpy, parts), torch.from_numpy(axis.astype(np.uint8))])
    return built(RawPatchBatch(*(list(kind) for kind in zip(*raw, strict=True)), keys, ["a"] * len(keys)))


def draws(index: int = 0, view: int = 0) -> Draws:
    return Draws(0, 0, index, view)


def image(size: int = 12, seed: int = 0) -> Tensor:
    return torch.rand(size, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", PER_SAMPLE, ids=lambda config: f"{config.name}-{config.appearances}")
def test_a_sample_looks_alike_in_any_batch_and_in_range(config: AugmentationConfig) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    together = augment(config, KEYS)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (together.second is not None) == (config.appearances == 2)
    for views in (together.image, together.second):
        if views is not None:
            assert views.shape == (3, 1, *PATCH)
            assert views.isfinite().all()
            assert 0 <= views.min() <= views.max() <= 1
    for slot, key in enumerate(KEYS):
        alone = augment(config, [key])
        for ours, theirs in zip(together, alone, strict=True):
            if isinstance(ours, Tensor):
                assert torch.equal(ours[slot], theirs[0])


@pytest.mark.parametrize("config", PER_SAMPLE[1:], ids=lambda config: f"{config.name}-{config.appearances}")
def test_only_the_appearance_is_the_rivals_own(config: LightConfig) -> None:
    light, ours = augment(LightConfig(), KEYS), augment(config, KEYS)
    assert not torch.equal(light.image, ours.image)
    for kept, other in zip(light[1:5], ours[1:5], strict=True):
        assert torch.equal(kept, other)
    if ours.second is not None:
        assert not torch.equal(ours.image, ours.second)


def test_a_rival_that_is_never_drawn_changes_no_bit() -> None:
    plain = augment(NoneConfig(), KEYS).image
    for config in (
        BigAugConfig(**STILL),
        GINConfig(**STILL, alpha=(0.0, 0.0)),
        RandConvConfig(**STILL, keep=1.0),
        CutMixConfig(**STILL, mixing=0.0),
    ):
        assert torch.equal(augment(config, KEYS).image, plain), config.name


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 10**6), alpha=st.floats(0.01, 1.0))
def test_gin_keeps_the_frobenius_norm_and_mixes_by_alpha(index: int, alpha: float) -> None:
    x = image() * 4 - 2
    x = (x - x.mean()) / x.std()
    other = random_network(x, GINConfig(), draws(index))
    mixed = blend(x, other, alpha)
    assert mixed.norm().item() == pytest.approx(x.norm().item(), rel=1e-3)
    assert mixed.mean().item() == pytest.approx(0, abs=1e-4)
    direct = alpha * other + (1 - alpha) * x
    correlation = torch.corrcoef(torch.stack([mixed.flatten(), direct.flatten()]))[0, 1]
    assert correlation.item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(blend(x, other, 0.0), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [GINConfig(alpha=(1.0, 1.0)), RandConvConfig()], ids=["gin", "randconv"])
def test_random_networks_leave_a_flat_patch_alone_and_have_no_frame(config: GINConfig | RandConvConfig) -> None:
    change = gin if isinstance(config, GINConfig) else randconv
    flat = torch.full((8, 8, 8), 0.25)
    torch.testing.assert_close(change(flat, config, draws()), flat)  # type: ignore[operator]  # each its own config
    # Faces are repeated outwards: a ramp along one axis stays constant along the two others, up to the faces.
    ramp = torch.linspace(0, 1, 9)[:, None, None].expand(9, 9, 9)
    for index in range(4):
        changed = change(ramp, config, draws(index))  # type: ignore[operator]
        torch.testing.assert_close(changed, changed[:, :1, :1].expand(9, 9, 9), atol=1e-4, rtol=0)


def test_a_single_layer_of_gin_is_a_convolution() -> None:
    x = image()
    y = random_network(x, GINConfig(layers=1, kernels=(3,)), draws())
    tripled = random_network(3 * x, GINConfig(layers=1, kernels=(3,)), draws())
    zero = random_network(torch.zeros_like(x), GINConfig(layers=1, kernels=(3,)), draws())
    torch.testing.assert_close(tripled - zero, 3 * (y - zero), atol=1e-3, rtol=1e-3)
    deep = [random_network(k * x, GINConfig(), draws()) for k in (0.0, 1.0, 3.0)]
    assert not torch.allclose(deep[2] - deep[0], 3 * (deep[1] - deep[0]), atol=1e-2)


def test_randconv_draws_every_kernel_size_and_keeps_a_patch_as_often_as_told() -> None:
    impulse = torch.zeros(15, 15, 15)
    impulse[7, 7, 7] = 1
    reached = set()
    for index in range(40):
        y = randconv(impulse, RandConvConfig(mix=False), draws(index))
        apart = (y - y[0, 0, 0]).abs() > 1e-4
        reached.add(int(apart.any(0).any(0).sum()))
    assert reached == {1, 3, 5, 7}
    kept = [torch.equal(randconv(impulse, RandConvConfig(keep=0.5), draws(i)), impulse) for i in range(60)]
    assert 15 < sum(kept) < 45


def test_squeezing_brings_what_leaves_the_range_into_it_in_order_and_leaves_the_rest_alone() -> None:
    inside, wide = torch.tensor([0.2, 0.9]), torch.tensor([-1.0, 0.0, 0.5, 2.0])
    assert torch.equal(squeezed(inside), inside)
    torch.testing.assert_close(squeezed(wide), torch.tensor([0.0, 1 / 3, 0.5, 1.0]))


@given(one=st.floats(0, 1), other=st.floats(0, 1))
def test_a_curve_rises_from_black_to_white(one: float, other: float) -> None:
    low, high = sorted((one, other))
    curve = bezier(torch.linspace(0, 1, 60, dtype=torch.float64), low, high)
    assert (curve.diff() >= -1e-9).all()
    assert curve[0] == 0
    assert curve[-1].item() == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 10**6), view=st.sampled_from([0, 1]))
def test_slaug_keeps_the_order_of_grey_values_within_a_class_unless_told_to_invert(index: int, view: int) -> None:
    x, label = image(), torch.zeros(12, 12, 12)
    label[3:9, 3:9, 3:9] = 1
    config = SLAugConfig(views=2)
    y = slaug(x, label, config, draws(index, view))
    parts = (label >= 0,) if view == 0 else (label == 1, label == 0)
    for part in parts:
        assert (y[part][x[part].argsort()].diff() >= -1e-6).all()
        # The shift is held where the part still lies in the window.
        assert -1e-5 <= y[part].mean() <= 1.1
    fallen = slaug(x, label, replace(config, inversion=1.0), draws(index, view))
    if view == 0:
        assert torch.equal(fallen, y)
    else:
        assert all((fallen[part][x[part].argsort()].diff() <= 1e-6).all() for part in parts)


def test_slaugs_local_form_parts_pancreas_and_rest_and_a_single_view_takes_turns() -> None:
    flat, label = torch.full((6, 6, 6), 0.5), torch.zeros(6, 6, 6)
    label[2:4, 2:4, 2:4] = 1
    two = SLAugConfig(views=2)
    assert slaug(flat, label, two, draws(0, 0)).unique().numel() == 1
    assert slaug(flat, label, two, draws(0, 1)).unique().numel() == 2
    kinds = [slaug(flat, label, SLAugConfig(), draws(index)).unique().numel() for index in range(40)]
    assert 8 < kinds.count(1) < 32


def test_bigaug_draws_each_of_its_intensities_by_itself_and_sharpens_as_monai_does() -> None:
    x = image(14)
    off = {
        "sharpness": (0.0, 0.0), "blur": (0.0, 0.0), "noise": 0.0, "brightness": 0.0, "contrast": (1.0, 1.0),
        "perturbation": 0.0,
    }  # fmt: skip
    always = BigAugConfig(intensity=1.0)
    only = {
        "blur": {"blur": (1.0, 1.0)}, "noise": {"noise": 0.1}, "brightness": {"brightness": 0.1},
        "contrast": {"contrast": (2.0, 2.0)}, "perturbation": {"perturbation": 0.1},
        "sharpness": {"sharpness": (5.0, 5.0)},
    }  # fmt: skip
    plain = stack.bigaug(x, replace(always, **off), draws())
    for name, change in only.items():
        changed = stack.bigaug(x, replace(always, **{**off, **change}), draws())
        assert not torch.allclose(changed, plain, atol=1e-3), name
        if name == "brightness":
            assert (changed - plain).std() < 1e-6
    sharp = stack.bigaug(x, replace(always, **{**off, "sharpness": (5.0, 5.0)}), draws())
    expected = GaussianSharpen(*stack.WIDTHS, alpha=5.0)(x[None])[0]
    torch.testing.assert_close(sharp, expected.as_subclass(Tensor).clamp(0, 1), atol=1e-4, rtol=0)


def test_cutmix_pastes_the_neighbours_box_with_its_label_distance_and_axis() -> None:
    config = CutMixConfig(**STILL, mixing=1.0)
    keys = [(0, index) for index in range(6)]
    plain, mixed = augment(NoneConfig(), keys), augment(config, keys)
    shares = []
    for sample, (epoch, index) in enumerate(keys):
        box = draw_box(plain.image, config, Draws(1, epoch, index))
        assert box is not None
        inside = torch.zeros(PATCH, dtype=torch.bool)
        inside[box] = True
        shares.append(inside.float().mean().item())
        for old, new in zip(plain[:4], mixed[:4], strict=True):
            assert torch.equal(new[sample, 0][inside], old[(sample + 1) % 6, 0][inside])
            assert torch.equal(new[sample, 0][~inside], old[sample, 0][~inside])
    assert 0 < sum(shares) / 6 < 1
    assert torch.equal(mixed.distance < 0, mixed.label == 1)
    assert torch.equal(mixed.axis == OUTSIDE_AXIS, mixed.label == 0)
    assert mixed.key.tolist() == [list(key) for key in keys]


def test_whether_and_where_cutmix_pastes_is_the_samples_own_and_as_often_as_told() -> None:
    boxes = [draw_box(torch.zeros(1, 1, *PATCH), CutMixConfig(), draws(index)) for index in range(80)]
    assert 24 < sum(box is not None for box in boxes) < 56
    batch = augment(CutMixConfig(), KEYS)
    again = cutmix(augment(LightConfig(), KEYS), CutMixConfig(), seed=1)
    assert all(torch.equal(a, b) for a, b in zip(batch[:5], again[:5], strict=True))
