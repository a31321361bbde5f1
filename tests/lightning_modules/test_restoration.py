"""L_res equals its formula; the thin decoder sees no stride-1 feature."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lightning_modules.losses.restoration import restoration_loss, structural_loss
from lightning_modules.restoration_decoder import BlockwiseUp, RestorationDecoder, RestorationHead

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
    torch.testing.assert_close(loss, torch.stack(expected), rtol=1e-12, atol=0)


def test_structure_is_ssim_in_windows_of_eleven_voxels() -> None:
    generator = torch.Generator().manual_seed(0)
    restored, target = (torch.rand(2, 1, 13, 12, 14, generator=generator, dtype=torch.float64) for _ in range(2))
    place = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(place**2) / (2 * 1.5**2))
    line = line / line.sum()
    window = line[:, None, None] * line[:, None] * line
    expected = []
    for x, y in zip(restored[:, 0], target[:, 0], strict=True):
        x, y = (v.unfold(0, 11, 1).unfold(1, 11, 1).unfold(2, 11, 1) for v in (x, y))
        mx, my = ((v * window).sum((3, 4, 5)) for v in (x, y))
        vx, vy = ((v * v * window).sum((3, 4, 5)) - m**2 for v, m in ((x, mx), (y, my)))
        cov = (x * y * window).sum((3, 4, 5)) - mx * my
        ssim = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
        expected.append(1 - ssim.mean())
    torch.testing.assert_close(structural_loss(restored, target).double(), torch.stack(expected), rtol=1e-4, atol=0)
    assert structural_loss(target, target).abs().max() < 1e-5


def test_a_sample_without_corruption_counts_nothing_for_the_corrupted_part() -> None:
    restored, target = torch.zeros(2, 1, 4, 4, 4), torch.ones(2, 1, 4, 4, 4)
    mask = torch.zeros(2, 1, 4, 4, 4, dtype=torch.bool)
    mask[1] = True
    error = F.smooth_l1_loss(torch.zeros(1), torch.ones(1), beta=0.05)
    torch.testing.assert_close(restoration_loss(restored, target, mask, 0.05, 0.1), torch.stack([0.1 * error, error]))


def test_the_target_gets_no_gradient_and_half_precision_stays_finite() -> None:
    restored = torch.full((1, 1, 12, 12, 12), 6e4, dtype=torch.float16, requires_grad=True)
    target = torch.zeros(1, 1, 12, 12, 12, requires_grad=True)
    mask = torch.ones(1, 1, 12, 12, 12, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        losses = (restoration_loss(restored, target, mask, 0.05, 0.1), structural_loss(restored, target))
    sum(losses).backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses)
    assert restored.grad is not None
    assert restored.grad.isfinite().all()
    assert target.grad is None


@pytest.mark.parametrize("skip", [False, True])
def test_decoder_restores_full_size_from_all_strides_and_from_the_first_only_by_a_skip(skip: bool) -> None:
    decoder = RestorationDecoder(CHANNELS, channels=16, seed=0, skip=skip)
    encoder = features()
    restored = decoder(encoder)
    assert restored.shape == (2, 1, 16, 16, 16)
    restored.square().mean().backward()
    assert (encoder[1].grad is not None) == skip
    for stride in (1, 2, 4, 8) if skip else (2, 4, 8):
        gradient = encoder[stride].grad
        assert gradient is not None
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(("wanted", "factor"), [(1, 2), (5, 2), (3, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_up_sampling_block_by_block_is_a_transposed_convolution(
    wanted: int, factor: int, layout: torch.memory_format
) -> None:
    ours = BlockwiseUp(4, wanted, kernel_size=factor, stride=factor).double()
    theirs = torch.nn.ConvTranspose3d(4, wanted, kernel_size=factor, stride=factor).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 3, 4, 5, dtype=torch.float64).to(memory_format=layout)
    weight = torch.randn(2, wanted, 3 * factor, 4 * factor, 5 * factor, dtype=torch.float64)
    results = []
    for layer in (ours, theirs):
        given = x.clone().requires_grad_()
        restored = layer(given)
        (restored * weight).sum().backward()
        results.append([restored.detach(), given.grad, *(p.grad for p in layer.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_decoder_weights_come_from_a_stream_of_their_own() -> None:
    torch.manual_seed(1)
    first = [RestorationDecoder(CHANNELS, 16, seed=4).state_dict(), RestorationHead(4, seed=4).state_dict()]
    torch.manual_seed(2)
    again = [RestorationDecoder(CHANNELS, 16, seed=4).state_dict(), RestorationHead(4, seed=4).state_dict()]
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
