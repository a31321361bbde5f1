"""L_res equals its formula; the thin decoder sees no stride-1 feature."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lightning_modules.losses.restoration import restoration_loss
from lightning_modules.restoration_decoder import RestorationDecoder

CHANNELS = {1: 4, 2: 6, 4: 8, 8: 10}


def features(size: int = 16) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        stride: torch.randn(2, width, *[size // stride] * 3, generator=generator, requires_grad=True)
        for stride, width in CHANNELS.items()
    }


def test_equals_its_formula_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    restored, target = torch.rand(2, 2, 1, 6, 6, 6, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, 1, 6, 6, 6, generator=generator) < 0.2
    expected = []
    for r, t, m in zip(restored, target, mask, strict=True):
        gap = (r - t).abs()
        error = torch.where(gap < 0.05, gap**2 / 0.1, gap - 0.025)
        expected.append(error[m].mean() + 0.1 * error[~m].mean())
    loss = restoration_loss(restored, target, mask, beta=0.05, rest=0.1)
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-12, atol=0)


def test_a_sample_without_corruption_counts_nothing_for_the_corrupted_part() -> None:
    restored, target = torch.zeros(2, 1, 4, 4, 4), torch.ones(2, 1, 4, 4, 4)
    mask = torch.zeros(2, 1, 4, 4, 4, dtype=torch.bool)
    mask[1] = True
    error = F.smooth_l1_loss(torch.zeros(1), torch.ones(1), beta=0.05)
    torch.testing.assert_close(restoration_loss(restored, target, mask, 0.05, 0.1), (0.1 * error + error) / 2)


def test_the_target_gets_no_gradient_and_half_precision_stays_finite() -> None:
    restored = torch.full((1, 1, 4, 4, 4), 6e4, dtype=torch.float16, requires_grad=True)
    target = torch.zeros(1, 1, 4, 4, 4, requires_grad=True)
    loss = restoration_loss(restored, target, torch.ones(1, 1, 4, 4, 4, dtype=torch.bool), 0.05, 0.1)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert target.grad is None


def test_decoder_restores_full_size_from_all_strides_but_the_first() -> None:
    decoder = RestorationDecoder(CHANNELS, channels=16, seed=0)
    encoder = features()
    restored = decoder(encoder)
    assert restored.shape == (2, 1, 16, 16, 16)
    restored.square().mean().backward()
    assert encoder[1].grad is None
    for stride in (2, 4, 8):
        gradient = encoder[stride].grad
        assert gradient is not None
        assert gradient.abs().sum() > 0


def test_decoder_weights_come_from_a_stream_of_their_own() -> None:
    torch.manual_seed(1)
    first = RestorationDecoder(CHANNELS, 16, seed=4).state_dict()
    torch.manual_seed(2)
    again = RestorationDecoder(CHANNELS, 16, seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
