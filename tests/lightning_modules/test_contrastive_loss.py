"""The contrastive loss against its formula, an independent NT-Xent, and the edges of what can be drawn."""

from __future__ import annotations

import math

import pytest
import torch
from contrast_oracle import nt_xent, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lightning_modules.losses.contrastive import Samples, contrastive_sum


def formula(pancreas: Samples, background: Samples, temperature: float) -> tuple[float, int]:
    """The sum over the anchors, in plain Python."""
    z, u = pancreas.embedding.tolist(), background.embedding.tolist()
    g = pancreas.group.tolist()
    n = [k for k, group in enumerate(background.group.tolist()) if group >= 0]
    raw = {k: 1 + background.uncertainty[k].item() for k in n}
    valid = [i for i, group in enumerate(g) if group >= 0]

    def s(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / temperature

    total, anchors = 0.0, 0
    for i in valid:
        positives = [p for p in valid if g[p] != g[i]] or [p for p in valid if p != i]
        if not positives or not n:
            continue
        mean = sum(raw.values()) / len(n)
        pushed = sum(raw[k] / mean * math.exp(s(z[i], u[k])) for k in n)
        terms = [math.log(math.exp(s(z[i], z[p])) + pushed) - s(z[i], z[p]) for p in positives]
        total, anchors = total + sum(terms) / len(terms), anchors + 1
    return total, anchors


groups = st.lists(st.integers(-1, 3), min_size=1, max_size=9)


@settings(max_examples=80, deadline=None)
@given(pancreas=groups, background=groups, seed=st.integers(0, 10**6), temperature=st.sampled_from([0.05, 0.1, 1.0]))
def test_it_is_the_formula_in_float64(
    pancreas: list[int], background: list[int], seed: int, temperature: float
) -> None:
    inside, outside = samples(pancreas, seed), samples(background, seed + 1)
    total, anchors = contrastive_sum(inside, inside, outside, temperature)
    expected, count = formula(inside, outside, temperature)
    assert int(anchors) == count
    assert total.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    total.backward()
    for side in (inside, outside):
        assert side.embedding.grad is not None
        assert side.embedding.grad.isfinite().all()


def test_it_is_nt_xent_on_explicit_tuples_of_equal_counts_with_its_gradient() -> None:
    parcels, each, outside = 4, 3, 10
    inside = samples([p for p in range(parcels) for _ in range(each)], 0)
    around = samples(list(range(outside)), 1, uncertainty=0.7)
    total, anchors = contrastive_sum(inside, inside, around, 0.1)
    ours = torch.autograd.grad(total / anchors, (inside.embedding, around.embedding))

    size = parcels * each
    pairs = [(i, p) for i in range(size) for p in range(size) if i // each != p // each]
    anchor, positive = torch.tensor(pairs).T
    negatives = torch.arange(size, size + outside).expand(len(pairs), -1)
    loss = nt_xent(torch.cat([inside.embedding, around.embedding]), anchor, positive, negatives, 0.1)
    theirs = torch.autograd.grad(loss, (inside.embedding, around.embedding))
    assert (total / anchors).item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_anchors_of_one_rank_sum_to_the_whole() -> None:
    inside, outside = samples([0, 0, 1, -1, 2, 2], 0), samples([5, 6, -1], 1)
    whole, anchors = contrastive_sum(inside, inside, outside, 0.1)
    parts = [
        contrastive_sum(Samples(*(t[a:b] for t in inside)), inside, outside, 0.1, first=a) for a, b in ((0, 2), (2, 6))
    ]
    assert sum(part.total.item() for part in parts) == pytest.approx(whole.item(), rel=1e-12)
    assert sum(int(part.anchors) for part in parts) == int(anchors) == 5


def test_one_parcel_alone_is_contrasted_with_its_own_other_cells_but_never_with_the_anchor_itself() -> None:
    outside = samples([9, 9], 1)
    pair, single = samples([4, 4], 0), samples([4, -1], 0)
    assert int(contrastive_sum(pair, pair, outside, 0.1).anchors) == 2
    assert int(contrastive_sum(single, single, outside, 0.1).anchors) == 0


@pytest.mark.parametrize(("pancreas", "background"), [([-1, -1], [3]), ([1, 2], [-1]), ([-1], [-1])])
def test_without_an_anchor_it_is_zero_and_still_attached(pancreas: list[int], background: list[int]) -> None:
    inside, outside = samples(pancreas, 0), samples(background, 1)
    total, anchors = contrastive_sum(inside, inside, outside, 0.1)
    assert total.item() == int(anchors) == 0
    gradients = torch.autograd.grad(total, (inside.embedding, outside.embedding))
    assert all((g == 0).all() for g in gradients)


def test_half_precision_would_overflow_where_this_does_not() -> None:
    close = F.normalize(torch.ones(40, 5), dim=1)
    naive = torch.exp((close @ close.T / 0.05).half())
    assert naive.isinf().any(), "the trap: e^20 passes fp16's 65504"
    inside = Samples(close.clone().requires_grad_(), torch.arange(40), torch.zeros(40))
    outside = Samples(-close, torch.arange(40), torch.ones(40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for far in (outside, outside._replace(embedding=close)):
            total, _ = contrastive_sum(inside, inside, far, 0.05)
            assert total.dtype == torch.float32
            (gradient,) = torch.autograd.grad(total, inside.embedding)
            assert total.isfinite()
            assert gradient.isfinite().all()


def test_uncertain_background_counts_more_and_uncertainty_gets_no_gradient() -> None:
    inside = samples([0, 1], 0)
    outside = Samples(inside.embedding.detach().clone(), torch.tensor([5, 6]), torch.tensor([0.0, 1.0]).double())
    outside.uncertainty.requires_grad_()
    outside.embedding.requires_grad_()
    total, _ = contrastive_sum(inside, inside, outside, 1.0)
    assert torch.autograd.grad(total, outside.uncertainty, allow_unused=True, retain_graph=True) == (None,)
    even = contrastive_sum(inside, inside, outside._replace(uncertainty=torch.full((2,), 0.4).double()), 1.0).total
    weighted, plain = (torch.autograd.grad(t, outside.embedding)[0].norm(dim=1) for t in (total, even))
    assert weighted[1] > plain[1]
    assert weighted[0] < plain[0]
