"""The forms of the contrastive loss against their formulas in explicit loops, against NT-Xent, and each other."""

from __future__ import annotations

import math

import pytest
import torch
from contrast_oracle import formula, nt_xent, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lightning_modules.config import ContrastiveConfig
from lightning_modules.losses.contrastive import Samples
from lightning_modules.losses.contrastive_forms import FORMS, FormSum, Side


def contrast(form: str, inside: Samples, outside: Samples, **options: float) -> FormSum:
    config = ContrastiveConfig(**options)  # type: ignore[arg-type]
    return FORMS[form](Side(inside, inside, 0), Side(outside, outside, 0), config)


groups = st.lists(st.integers(-1, 3), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    pancreas=groups,
    background=groups,
    seed=st.integers(0, 10**6),
    temperature=st.sampled_from([0.05, 0.1, 1.0]),
    weights=st.sampled_from([(1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.3, 2.5)]),
)
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_its_formula_in_float64(
    form: str, pancreas: list[int], background: list[int], seed: int, temperature: float, weights: tuple[float, float]
) -> None:
    inside, outside = samples(pancreas, seed), samples(background, seed + 1)
    options = {"temperature": temperature, "cohesion": weights[0], "separation": weights[1]}
    found = contrast(form, inside, outside, **options)
    total, count = formula(form, inside, outside, ContrastiveConfig(**options))  # type: ignore[arg-type]
    assert int(found.anchors) == count
    assert found.total.item() == pytest.approx(total, rel=1e-12, abs=1e-11)
    found.total.backward()
    for side in (inside, outside):
        assert side.embedding.grad is not None
        assert side.embedding.grad.isfinite().all()


def test_the_symmetric_form_is_nt_xent_on_the_tuples_of_both_sides_with_its_gradient() -> None:
    """Twelve cells a side in four regions: as many positives and negatives for every anchor."""
    regions, each = 4, 3
    size = regions * each
    inside = samples([r for r in range(regions) for _ in range(each)], 0, uncertainty=0.2)
    outside = samples([regions + r for r in range(regions) for _ in range(each)], 1, uncertainty=0.7)
    found = contrast("symmetric", inside, outside)
    ours = torch.autograd.grad(found.total / found.anchors, (inside.embedding, outside.embedding))

    pairs = [
        (i, p) for i in range(2 * size) for p in range(2 * size) if i // size == p // size and i // each != p // each
    ]
    anchor, positive = torch.tensor(pairs).T
    other = [[n for n in range(2 * size) if n // size != i // size] for i, _ in pairs]
    loss = nt_xent(torch.cat([inside.embedding, outside.embedding]), anchor, positive, torch.tensor(other), 0.1)
    theirs = torch.autograd.grad(loss, (inside.embedding, outside.embedding))
    assert int(found.anchors) == 2 * size
    assert (found.total / found.anchors).item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_both_halves_together_are_info_nce_without_the_positive_in_its_denominator() -> None:
    inside, outside = samples([0, 0, 1, 2], 0), samples([5, 6, 7], 1, uncertainty=0.5)
    found = contrast("cohesion_separation", inside, outside, temperature=0.2)
    decoupled = 0.0
    for i, g in enumerate([0, 0, 1, 2]):
        s = inside.embedding[i] @ inside.embedding.T / 0.2
        pushed = (inside.embedding[i] @ outside.embedding.T / 0.2).logsumexp(0)
        decoupled += torch.stack([pushed - s[p] for p, other in enumerate([0, 0, 1, 2]) if other != g]).mean().item()
    constant = math.log(3) - 2 / 0.2
    assert found.total.item() == pytest.approx(decoupled - 4 * constant, rel=1e-12)
    assert (found.parts["cohesion"] + found.parts["separation"]).item() == pytest.approx(found.total.item(), rel=1e-12)


def test_one_half_alone_moves_only_what_it_is_about() -> None:
    inside, outside = samples([0, 1, 2], 0), samples([5, 6], 1)
    both = contrast("cohesion_separation", inside, outside)
    for part, reaches in (("cohesion", False), ("separation", True)):
        weights = {"cohesion": 0.0, "separation": 0.0, part: 1.0}
        alone = contrast("cohesion_separation", inside, outside, **weights)
        assert alone.total.item() == pytest.approx(both.parts[part].item(), rel=1e-12)
        assert {name: value.item() for name, value in alone.parts.items()} == {
            name: value.item() for name, value in both.parts.items()
        }
        gradient = torch.autograd.grad(alone.total, (inside.embedding, outside.embedding))
        assert bool(gradient[0].abs().sum() > 0)
        assert bool(gradient[1].abs().sum() > 0) == reaches


def test_the_parts_are_zero_at_best_and_never_below() -> None:
    point = torch.tensor([[1.0, 0.0, 0.0]]).repeat(3, 1).double()
    inside = Samples(point, torch.arange(3), torch.zeros(3))
    opposite, same = (Samples(sign * point, torch.arange(3), torch.rand(3)) for sign in (-1, 1))
    best = contrast("cohesion_separation", inside, opposite).parts
    assert {name: value.item() for name, value in best.items()} == pytest.approx({"cohesion": 0, "separation": 0})
    assert contrast("cohesion_separation", inside, same).parts["separation"].item() == pytest.approx(3 * 2 / 0.1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("pancreas", "background"),
    [([0, 0, 1, -1, 2, 2], [5, 6, -1, 7]), ([4, -1, 4, 4, -1, 4], [-1, 5, 5, 5])],
    ids=["several regions", "one region a side: its own other cells are the positives"],
)
def test_the_sums_of_parts_of_the_batch_are_those_of_the_whole(
    form: str, pancreas: list[int], background: list[int]
) -> None:
    inside, outside = samples(pancreas, 0), samples(background, 1)
    whole = contrast(form, inside, outside)
    config = ContrastiveConfig()
    found = [
        FORMS[form](
            Side(Samples(*(t[a:b] for t in inside)), inside, a),
            Side(Samples(*(t[c:d] for t in outside)), outside, c),
            config,
        )
        for (a, b), (c, d) in [((0, 2), (0, 1)), ((2, 6), (1, 4))]
    ]
    assert sum(part.total.item() for part in found) == pytest.approx(whole.total.item(), rel=1e-12)
    valid = [g for g in (pancreas + background if form == "symmetric" else pancreas) if g >= 0]
    assert sum(int(part.anchors) for part in found) == int(whole.anchors) == len(valid)
    for name, value in whole.parts.items():
        assert sum(part.parts[name].item() for part in found) == pytest.approx(value.item(), rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("pancreas", "background"), [([-1, -1], [3]), ([1, 2], [-1]), ([-1], [-1])])
def test_without_an_anchor_each_is_zero_and_still_attached(
    form: str, pancreas: list[int], background: list[int]
) -> None:
    inside, outside = samples(pancreas, 0), samples(background, 1)
    found = contrast(form, inside, outside)
    assert found.total.item() == int(found.anchors) == 0
    gradients = torch.autograd.grad(found.total, (inside.embedding, outside.embedding))
    assert all((g == 0).all() for g in gradients)


@pytest.mark.parametrize("form", FORMS)
def test_under_autocast_and_at_a_low_temperature_each_stays_in_float32_and_finite(form: str) -> None:
    close = F.normalize(torch.ones(40, 5), dim=1)
    inside = Samples(close.clone().requires_grad_(), torch.arange(40), torch.zeros(40))
    outside = Samples(-close, torch.arange(40), torch.ones(40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for far in (outside, outside._replace(embedding=close)):
            found = contrast(form, inside, far, temperature=0.05)
            assert found.total.dtype == torch.float32
            (gradient,) = torch.autograd.grad(found.total, inside.embedding)
            assert found.total.isfinite()
            assert gradient.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_uncertain_negatives_count_more_in_each_and_uncertainty_gets_no_gradient(form: str) -> None:
    inside = samples([0, 1], 0)
    outside = Samples(inside.embedding.detach().clone(), torch.tensor([5, 6]), torch.tensor([0.0, 1.0]).double())
    outside.uncertainty.requires_grad_()
    even = outside._replace(uncertainty=torch.full((2,), 0.4).double())
    weighted = contrast(form, inside, outside, temperature=1.0).total
    assert torch.autograd.grad(weighted, outside.uncertainty, allow_unused=True) == (None,)
    assert weighted.item() != pytest.approx(contrast(form, inside, even, temperature=1.0).total.item(), rel=1e-9)
