"""MixStyle and DSU: what they do to statistics, when, and that nothing else depends on them."""

from __future__ import annotations

import pytest
import torch
from ellipsoid_patches import ellipsoid_batch

from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig, RestorationConfig
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.networks.statistics import DSU, MixStyle, mix_style, style, uncertain_style
from lightning_modules.rivals_config import DSUConfig, FeaturesConfig, MixStyleConfig, NoFeaturesConfig
from lightning_modules.schedules import Progress

FULL = Progress(50, 100)
ALWAYS = {"mixstyle": MixStyleConfig(probability=1.0, alpha=1.0), "dsu": DSUConfig(probability=1.0)}


def build(features: FeaturesConfig, restore: float = 0.0) -> DualSSLModule:
    model = ModelConfig(
        network=DynUNetConfig(filters=(4, 8, 16)),
        contrastive=ContrastiveConfig(weight=0.0),
        restoration=RestorationConfig(weight=restore),
        features=features,
    )
    return DualSSLModule(model, Preprocessing((3.0, 3.0, 3.0), (-100.0, 240.0), (16, 16, 16))).train()


def features(count: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shift = 5 * torch.randn(count, 4, 1, 1, 1, generator=generator, dtype=dtype)
    return shift.exp().clamp(0.5, 3) * torch.randn(count, 4, 5, 6, 3, generator=generator, dtype=dtype) + shift


def test_mixed_statistics_are_convex_combinations_of_a_samples_own_and_its_partners() -> None:
    x, share, partner = features(), torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64), torch.tensor([1, 2, 0])
    mixed = mix_style(x, share, partner)
    mean, spread = style(x)
    own = share[:, None, None, None, None]
    for found, before in zip(style(mixed), (mean, spread), strict=True):
        torch.testing.assert_close(found, own * before + (1 - own) * before[partner], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixed[0], x[0])
    # What is not style stays.
    rest = (mixed - mixed.mean((2, 3, 4), True)) / style(mixed)[1]
    torch.testing.assert_close(rest, (x - mean) / spread, atol=1e-4, rtol=1e-4)


def test_mixstyle_sends_no_gradient_through_the_statistics() -> None:
    x = features().requires_grad_()
    share, partner = torch.tensor([0.5] * 3, dtype=torch.float64), torch.tensor([1, 2, 0])
    (gradient,) = torch.autograd.grad(mix_style(x, share, partner)[0].sum(), x)
    assert gradient[1].abs().max() == 0
    spread = style(x)[1]
    torch.testing.assert_close(gradient[0], (0.5 + 0.5 * spread[1] / spread[0]).expand_as(x[0]).detach())


def test_dsu_moves_statistics_by_as_much_as_they_vary_over_the_batch_and_not_where_they_don_t() -> None:
    x = features()
    noise = torch.randn(2, 3, 4, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, spread = style(x)
    moved = uncertain_style(x, *noise)
    found = style(moved)
    torch.testing.assert_close(found[0], mean + noise[0] * mean.std(0, keepdim=True))
    expected = (spread + noise[1] * spread.std(0, keepdim=True)).abs()
    torch.testing.assert_close(found[1], expected, rtol=1e-3, atol=1e-3)
    alike = x[:1].expand(3, -1, -1, -1, -1).clone().requires_grad_()
    same = uncertain_style(alike, *noise)
    torch.testing.assert_close(same, alike)
    same.square().sum().backward()
    assert alike.grad is not None
    assert alike.grad.isfinite().all()


@pytest.mark.parametrize("kind", ALWAYS)
def test_features_are_perturbed_in_training_alone_by_the_key_and_never_by_the_global_state(kind: str) -> None:
    module, plain = build(ALWAYS[kind]), build(NoFeaturesConfig())
    assert module.state_dict().keys() == plain.state_dict().keys()
    batch = ellipsoid_batch(2, 16)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = module.losses(batch, FULL).total
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(module.losses(batch, FULL).total, first)
    assert not torch.equal(plain.losses(batch, FULL).total, first)
    later = batch._replace(key=batch.key + torch.tensor([1, 0]))
    assert not torch.equal(module.losses(later, FULL).total, first)
    # Outside a training step: prediction, a look without a gradient, evaluation mode.
    assert torch.equal(module(batch.image), plain(batch.image))
    with torch.no_grad():
        assert torch.equal(module.losses(batch, FULL).total, plain.losses(batch, FULL).total)
    assert torch.equal(module.eval().losses(batch, FULL).total, plain.eval().losses(batch, FULL).total)


def test_the_corrupted_pass_draws_for_itself() -> None:
    module = build(MixStyleConfig(probability=0.5, alpha=1.0), restore=1.0)
    perturb, drawn = module.network.encoder.perturb, []
    original = MixStyle.perturb

    def watch(self: MixStyle, values: torch.Tensor, key: tuple[int | str, ...]) -> torch.Tensor:
        drawn.append(key)
        return original(self, values, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MixStyle, "perturb", watch)
        for index in range(8):
            module.losses(ellipsoid_batch(2, 16, first=index), FULL)
    assert isinstance(perturb, MixStyle)
    assert len(set(drawn)) == len(drawn)
    assert {str(key[-1]).rpartition(", ")[2] for key in drawn} == {"pass 1", "pass 2"}
    assert 8 < len(drawn) < 24  # of 8 batches × 2 passes × 2 stages about half


@pytest.mark.parametrize("kind", [MixStyle, DSU])
def test_layout_and_precision_of_the_features_are_kept(kind: type) -> None:
    perturb = kind(ALWAYS[kind.__name__.lower()], seed=0)
    x = features(5, torch.float32).bfloat16().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    with perturb.of(torch.tensor([[0, 3], [0, 4]])), torch.autocast("cpu", torch.bfloat16):
        y = perturb(1, x)
        assert perturb(16, x) is x
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert not torch.equal(x, y)
    assert perturb(1, x) is x
