"""Every variant of the restoration in the module: what it reaches, what it records, and that it stays finite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ellipsoid_patches import ellipsoid_batch
from restoring import FULL, NAMES, VARIANTS, build, odd_batch, reached, some

from datamodules.errors import UsageError
from lightning_modules.config import CorruptionConfig
from lightning_modules.losses.restoration import restoration_loss, structural_loss
from lightning_modules.schedules import Progress

THIN, SHARED = {"encoder", "restoration"}, {"encoder", "decoder", "restoration"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, THIN),
        ({"skip": True}, THIN),
        ({"ssim": 0.3}, THIN),
        ({"decoder": "shared"}, SHARED),
        ({"detach_encoder": True}, {"restoration"}),
        ({"detach_encoder": True, "skip": True}, {"restoration"}),
        ({"detach_encoder": True, "decoder": "shared"}, {"restoration"}),
    ],
)
@pytest.mark.parametrize("passes", ["two", "one"])
def test_restoration_reaches_its_own_decoder_and_what_that_shares(
    passes: str, options: dict[str, Any], expected: set[str]
) -> None:
    module = build("band", passes=passes, **options)
    results = module.losses(ellipsoid_batch(2, 16), FULL).results
    assert reached(module, results["restoration"].loss) == expected
    # Nothing of M, U or the target leads from the segmentation to the restoration.
    assert "restoration" not in reached(module, results["segmentation"].loss)


def test_a_shared_decoder_is_run_for_the_corrupted_image_though_no_other_term_needs_it() -> None:
    module = build(contrast=0.0, decoder="shared", segment_corrupted=False)
    views = module.views(ellipsoid_batch(2, 16), FULL)
    assert views.corrupted is not None
    assert views.corrupted.decoded is not None
    assert "restoration head" not in str(module.terms["restoration"].decoder)
    assert module.terms["restoration"](views).loss > 0


@pytest.mark.parametrize("skip", [False, True])
def test_only_with_the_skip_does_the_thin_decoder_see_stride_1(skip: bool) -> None:
    module = build("band", skip=skip, segment_corrupted=False, contrast=0.0)
    views = module.views(ellipsoid_batch(2, 16), FULL)
    assert views.corrupted is not None
    seen = {s: f.detach().requires_grad_() for s, f in views.corrupted.encoder.items()}
    views.corrupted.encoder = seen
    module.terms["restoration"](views).loss.backward()
    assert (seen[1].grad is not None and bool(seen[1].grad.any())) == skip
    assert all(f.grad is not None and f.grad.any() for s, f in seen.items() if s > 1)


def test_the_term_is_its_formula() -> None:
    batch = ellipsoid_batch(2, 16)
    module = build("band", ssim=0.3, rest=0.2, beta=0.1)
    views = module.views(batch, FULL)
    assert views.corrupted is not None
    restored = module.terms["restoration"].restore(views)
    expected = restoration_loss(restored, batch.image, views.corrupted.mask, 0.1, 0.2)
    expected = (expected + 0.3 * structural_loss(restored, batch.image)).mean()
    torch.testing.assert_close(module.terms["restoration"](views).loss, expected)


def test_the_weight_rises_and_fades_in_shares_of_training() -> None:
    module = build(weight=0.5, ramp=0.1, fade=0.6)
    weight = module.terms["restoration"].weight
    assert [weight(Progress(step, 100)) for step in (0, 4, 9, 59)] == pytest.approx([0.05, 0.25, 0.5, 0.5])
    assert weight(Progress(80, 100)) == pytest.approx(0.25)
    assert 0 < weight(Progress(99, 100)) < 0.02
    assert build(ramp=0.0).terms["restoration"].weight(Progress(99, 100)) == 1.0


@pytest.mark.parametrize(("passes", "region"), VARIANTS)
def test_everything_is_finite_in_bf16_for_odd_masks_and_intensities(passes: str, region: str) -> None:
    module = build(region, passes=passes, ssim=0.1)
    batch = odd_batch()
    # In a single pass one half is corrupted in this epoch, the other in the next.
    for epoch in range(2 if passes == "one" else 1):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            losses = module.losses(batch._replace(key=batch.key + torch.tensor([epoch, 0])), FULL)
        losses.total.backward()
        assert losses.total.dtype == torch.float32
        for result in losses.results.values():
            assert result.loss.isfinite()
            assert all(value.isfinite() for value in result.watch().values())
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(("passes", "region"), VARIANTS)
def test_the_record_says_where_m_lies(passes: str, region: str) -> None:
    batch = ellipsoid_batch(4, 16, empty=(3,))
    module = build(region, passes=passes)
    views = module.views(batch, FULL)
    assert views.corrupted is not None
    log = module.terms["restoration"](views).watch()
    m = views.corrupted.region
    with_m = float((m.flatten(1).any(1)).float().mean())
    assert with_m == (0.25 if passes == "one" else 0.75)
    inside = [(m[s] & (batch.distance[s] < 0)).sum() / m[s].sum() for s in range(4) if m[s].any()]
    assert float(log["region/inside"]) == pytest.approx(float(sum(inside)) / 4)
    assert float(log["region/inside"] + log["region/outside"]) == pytest.approx(with_m)
    assert 0 <= log["region/band_excess"] <= log["region/outside"] + log["region/inside"]
    assert float(log["region/corrupted"]) == pytest.approx(float(views.corrupted.mask.float().mean()))


@pytest.mark.parametrize(("passes", "region"), VARIANTS)
def test_a_sample_is_corrupted_alike_in_any_batch(passes: str, region: str) -> None:
    batch = ellipsoid_batch(4, 16)
    module = build(region, passes=passes).double()
    batch = batch._replace(image=batch.image.double(), distance=batch.distance.double())
    order = [3, 0]
    together, apart = (module.views(b, FULL).corrupted for b in (batch, some(batch, order)))
    assert together is not None
    assert apart is not None
    for whole, few in (
        (together.region, apart.region),
        (together.mask, apart.mask),
    ):
        assert torch.equal(whole[order], few)
    torch.testing.assert_close(together.image[order], apart.image, rtol=0, atol=1e-6)
    untouched = ~together.mask
    assert torch.equal(together.image[untouched], batch.image[untouched])


@pytest.mark.parametrize("name", sorted(CorruptionConfig().operators))
def test_any_one_operator_can_be_left_out(name: str) -> None:
    weights = {other: float(other != name) for other in CorruptionConfig().operators}
    module = build("whole", corruption=CorruptionConfig(operators=weights, probability=1.0))
    assert module.corrupted_pass is not None
    assert set(module.corrupted_pass.corruption.weights) == set(weights) - {name}
    views = module.views(ellipsoid_batch(2, 16), FULL)
    assert views.corrupted is not None
    assert views.corrupted.mask.any()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        *[({"region": name, "passes": "one"}, r"region\.name") for name in NAMES if ("one", name) not in VARIANTS],
        ({"decoder": "shared", "skip": True}, "skip"),
    ],
)
def test_what_can_not_go_together_is_refused_in_a_sentence_with_a_way_out(options: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError, match=rf"model\.restoration\.{key}.*(set|take) ") as error:
        build(**options)
    assert "\n" not in str(error.value)
