"""The contrastive term on whole batches: what it reaches, what it logs, and what it survives."""

from __future__ import annotations

import pytest
import torch
from ball_patches import CHANNELS, SPACING, batch_of, inputs, odd_batch, term_of
from torch import Tensor

from datamodules.batch import OUTSIDE_AXIS, PatchBatch
from datamodules.errors import UsageError
from lightning_modules.config import ContrastiveConfig
from lightning_modules.contrastive import ContrastiveTerm
from lightning_modules.regions.structure import REGION_NAMES


def test_it_reaches_head_and_both_views_but_not_the_uncertainty() -> None:
    batch, term = batch_of([7.0, 6.0]), term_of()
    features, uncertainty = inputs(batch)
    uncertainty.requires_grad_()
    result = term(features, batch, uncertainty)
    assert result.loss.item() > 0
    result.loss.backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in features)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in term.parameters())
    assert uncertainty.grad is None


def test_only_cells_that_were_drawn_get_a_gradient() -> None:
    batch, term = batch_of([7.0]), term_of()
    features, uncertainty = inputs(batch, views=1)
    term(features, batch, uncertainty).loss.backward()
    touched = int((features[0].grad.abs().sum(1) > 0).sum())  # type: ignore[union-attr]
    assert 0 < touched <= 288


def test_clean_views_leave_the_corrupted_pass_alone() -> None:
    batch, term = batch_of([7.0, 6.0]), term_of(views="clean")
    features, uncertainty = inputs(batch)
    loss = term(features, batch, uncertainty).loss
    assert loss.item() == term(features[:1], batch, uncertainty).loss.item()
    assert torch.autograd.grad(loss, features[1], allow_unused=True) == (None,)


def test_fill_is_the_share_of_patches_that_hold_a_region() -> None:
    batch, term = batch_of([7.0, 0.0, 0.0, 6.5]), term_of()
    fill = term(*swap(inputs(batch), batch)).fill
    assert tuple(fill) == REGION_NAMES
    assert {n: f.item() for n, f in fill.items()} == {n: (1.0 if n in REGION_NAMES[6:] else 0.5) for n in REGION_NAMES}


def swap(given: tuple[list[Tensor], Tensor], batch: PatchBatch) -> tuple[list[Tensor], PatchBatch, Tensor]:
    return given[0], batch, given[1]


def test_without_an_axis_core_and_rim_are_still_contrasted() -> None:
    batch, term = batch_of([7.0]), term_of()
    batch.axis.fill_(OUTSIDE_AXIS)
    result = term(*swap(inputs(batch), batch))
    assert result.loss.item() > 0
    assert [n for n in REGION_NAMES[:6] if result.fill[n] > 0] == ["body_core", "body_rim"]


def test_a_batch_without_pancreas_gives_zero_attached_to_everything() -> None:
    batch, term = batch_of([0.0, 0.0]), term_of()
    features, uncertainty = inputs(batch)
    result = term(features, batch, uncertainty)
    assert result.loss.item() == 0
    gradients = torch.autograd.grad(result.loss, [*features, *term.parameters()])
    assert all((g == 0).all() for g in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask", ["empty", "full", "one voxel", "half a cell", "ball"])
@pytest.mark.parametrize("temperature", [0.05, 0.1])
def test_nothing_is_nan(dtype: torch.dtype, mask: str, temperature: float) -> None:
    batch = odd_batch(mask)
    term = ContrastiveTerm(ContrastiveConfig(temperature=temperature), CHANNELS, SPACING, seed=0)
    generator = torch.Generator().manual_seed(0)
    largest = 6e4 if dtype is torch.float16 else 1e6
    features = [
        (torch.randn(2, CHANNELS, 12, 12, 12, generator=generator).sign() * largest).to(dtype).requires_grad_(),
        torch.zeros(2, CHANNELS, 12, 12, 12, dtype=dtype).requires_grad_(),
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = term(features, batch, torch.rand(batch.label.shape, generator=generator).to(dtype)).loss
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    gradients = torch.autograd.grad(loss, [*features, *term.parameters()])
    assert all(g.isfinite().all() for g in gradients)
    assert (loss > 0) == (mask in ("ball", "half a cell"))


def test_training_on_it_pulls_the_pancreas_together_and_away_from_the_rest() -> None:
    batch, term = batch_of([7.0]), term_of()
    features, uncertainty = inputs(batch)
    optimizer = torch.optim.Adam([*features, *term.parameters()], lr=0.1)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = term(features, batch, uncertainty).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    flat = features[0].detach().flatten(2).transpose(1, 2)
    embedding = term.head(flat)
    inside = torch.nn.functional.avg_pool3d(batch.label, 2).flatten(1) >= 0.5
    heart = embedding[inside].mean(0)
    assert (embedding[inside] @ heart).mean() > (embedding[~inside] @ heart).mean() + 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, r"model\.contrastive\.temperature"),
        ({"slots": (0, 96, 64, 32)}, r"model\.contrastive\.slots"),
        ({"slots": (16, 0, 0, 0)}, r"model\.contrastive\.slots"),
        ({"slots": (16, 96, -1, 32)}, r"model\.contrastive\.slots"),
        ({"stride": 16}, r"model\.contrastive\.stride"),
        ({"form": "symetric"}, r"model\.contrastive\.form: 'symetric' is none of asymmetric, symmetric, cohesion_sep"),
        ({"rings": "two"}, r"model\.contrastive\.rings: 'two' is none of three, one"),
        ({"form": "cohesion_separation", "cohesion": 0.0, "separation": 0.0}, r"model\.contrastive\.cohesion"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        term_of(**options)
