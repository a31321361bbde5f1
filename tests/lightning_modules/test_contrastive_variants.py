"""Forms, structures, rings and samplings of the contrastive term, on whole batches and within the module."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ball_patches import CHANNELS, SPACING, batch_of, inputs, odd_batch, term_of
from contrast_oracle import formula
from ellipsoid_patches import ellipsoid_batch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batch import PatchBatch
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig
from lightning_modules.contrastive import ContrastiveResult, ContrastiveTerm
from lightning_modules.losses.contrastive import Samples
from lightning_modules.losses.contrastive_forms import FORMS
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.regions.sampling import draw_slots, keyed_draws
from lightning_modules.regions.structure import Partition, cell_regions, voxel_regions
from lightning_modules.schedules import Progress

STRUCTURES, RINGS, SAMPLINGS = ("both", "axis", "shells", "none"), ("three", "one"), ("mixed", "uniform", "uncertain")


def contrast(term: ContrastiveTerm, batch: PatchBatch) -> ContrastiveResult:
    features, uncertainty = inputs(batch)
    result: ContrastiveResult = term(features, batch, uncertainty)
    return result


def sides(term: ContrastiveTerm, batch: PatchBatch, embeddings: list[Tensor]) -> tuple[Samples, Samples]:
    """All samples of a batch, told apart by image, view and the *name* of their region, by hand."""
    config, stride = term.config, term.config.stride
    partition = Partition.of(config.structure, config.rings)
    voxels = voxel_regions(batch.distance[:, 0], batch.axis[:, 0], term.bounds)
    cells = cell_regions(voxels, stride, partition).flatten(1)
    doubt = torch.nn.functional.avg_pool3d(inputs(batch)[1], stride).flatten(1)
    draws = keyed_draws(batch.key, 0, cells.shape[1], cells.device)
    slots = draw_slots(cells, doubt, term.slots, draws, config.sampling)
    names: list[tuple[int, int, str]] = []
    rows: dict[bool, list[tuple[Tensor, int, float]]] = {True: [], False: []}
    for (view, embedding), image in product(enumerate(embeddings), range(len(cells))):
        for slot, (cell, valid) in enumerate(zip(slots.cell[image].tolist(), slots.valid[image].tolist(), strict=True)):
            if valid:
                region = partition.names[int(cells[image, cell])]
                if (image, view, region) not in names:
                    names.append((image, view, region))
                row = embedding[image, slot], names.index((image, view, region)), doubt[image, cell].item()
                rows[region in partition.parcels].append(row)
    inside, outside = (Samples(*map(_stacked, zip(*rows[side], strict=True))) for side in (True, False))
    return inside, outside


def _stacked(values: Sequence[Tensor | float]) -> Tensor:
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in values])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("structure", "rings", "sampling"),
    [
        ("both", "three", "mixed"),
        ("axis", "one", "uniform"),
        ("shells", "three", "uncertain"),
        ("none", "one", "mixed"),
    ],
)
def test_the_term_is_its_formula_over_the_merged_regions_of_the_batch(
    form: str, structure: str, rings: str, sampling: str
) -> None:
    batch = batch_of([6.0, 0.0, 5.0])
    term = term_of(form=form, structure=structure, rings=rings, sampling=sampling, slots=(2, 4, 3, 2), separation=0.5)
    embeddings: list[Tensor] = []
    term.head.register_forward_hook(lambda _, __, output: embeddings.append(output.detach()))
    loss = contrast(term, batch).loss
    total, count = formula(form, *sides(term, batch, embeddings), term.config)
    assert count > 20
    assert loss.item() == pytest.approx(total / count, rel=1e-10)


@pytest.mark.parametrize(("structure", "rings"), list(product(STRUCTURES, RINGS)))
def test_fill_and_cosines_are_named_as_the_regions(structure: str, rings: str) -> None:
    result = contrast(term_of(structure=structure, rings=rings), batch_of([7.0, 0.0]))
    partition = Partition.of(structure, rings)  # type: ignore[arg-type]
    assert {name: share.item() for name, share in result.fill.items()} == {
        name: 0.5 if name in partition.parcels else 1.0 for name in partition.names
    }
    recorded = result.watch()
    assert [name for name in recorded if name.startswith("cosine/")] == [f"cosine/{ring}" for ring in partition.rings]
    assert all(-1 <= value <= 1 and not value.requires_grad for value in recorded.values())


@pytest.mark.parametrize(("form", "sampling"), list(product(FORMS, SAMPLINGS)))
def test_a_sample_takes_the_same_cells_wherever_it_stands_in_whichever_batch(form: str, sampling: str) -> None:
    batch, term = batch_of([7.0, 6.0, 5.0]), term_of(form=form, sampling=sampling)
    features, uncertainty = inputs(batch)
    turned = [2, 0, 1]
    moved = PatchBatch(*(t[turned] for t in batch[:5]), [batch.case[i] for i in turned])
    straight = term(features, batch, uncertainty).loss
    crooked = term([f[turned] for f in features], moved, uncertainty[turned]).loss
    assert straight.item() == pytest.approx(crooked.item(), rel=1e-12)
    later = batch._replace(key=batch.key + torch.tensor([1, 0]))
    assert straight.item() != pytest.approx(term(features, later, uncertainty).loss.item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask", ["empty", "full", "one voxel", "half a cell", "ball"])
@pytest.mark.parametrize("form", FORMS)
def test_no_form_is_nan_for_extreme_features_and_odd_masks(form: str, mask: str, dtype: torch.dtype) -> None:
    """Where the pancreas is half a cell or less, the patch has neither a near ring nor a mid one."""
    batch = odd_batch(mask)
    config = ContrastiveConfig(form=form, temperature=0.05, structure="axis")  # type: ignore[arg-type]
    term = ContrastiveTerm(config, CHANNELS, SPACING, seed=0)
    generator = torch.Generator().manual_seed(0)
    largest = 6e4 if dtype is torch.float16 else 1e6
    features = [
        (torch.randn(2, CHANNELS, 12, 12, 12, generator=generator).sign() * largest).to(dtype).requires_grad_(),
        torch.zeros(2, CHANNELS, 12, 12, 12, dtype=dtype).requires_grad_(),
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = term(features, batch, torch.rand(batch.label.shape, generator=generator).to(dtype))
        recorded = {**result.fill, **result.parts, **result.watch()}
    assert result.loss.dtype == torch.float32
    assert result.loss.isfinite()
    assert (result.loss > 0) == (mask in ("ball", "half a cell"))
    gradients = torch.autograd.grad(result.loss, [*features, *term.parameters()])
    assert all(g.isfinite().all() for g in gradients)
    assert all(value.isfinite() for value in recorded.values())


@pytest.mark.parametrize("form", FORMS)
def test_training_on_each_form_parts_the_pancreas_from_the_rest(form: str) -> None:
    batch, term = batch_of([7.0]), term_of(form=form)
    features, uncertainty = inputs(batch)
    optimizer = torch.optim.Adam([*features, *term.parameters()], lr=0.1)
    before = term(features, batch, uncertainty).watch()
    for _ in range(30):
        optimizer.zero_grad()
        term(features, batch, uncertainty).loss.backward()
        optimizer.step()
    after = term(features, batch, uncertainty).watch()
    for name in ("cosine/near", "cosine/mid", "cosine/far", "embedding/centroid_similarity"):
        assert after[name] < before[name] - 0.2


def test_cohesion_alone_pulls_together_and_separation_alone_pushes_apart() -> None:
    batch = batch_of([7.0])
    for part, other in (("cohesion", "separation"), ("separation", "cohesion")):
        term = term_of(form="cohesion_separation", **{other: 0.0})
        features, uncertainty = inputs(batch)
        result = term(features, batch, uncertainty)
        assert result.loss.item() == pytest.approx(result.parts[part].item(), rel=1e-12)
        optimizer = torch.optim.Adam([*features, *term.parameters()], lr=0.1)
        for _ in range(25):
            optimizer.zero_grad()
            term(features, batch, uncertainty).loss.backward()
            optimizer.step()
        after = term(features, batch, uncertainty)
        assert after.parts[part] < 0.5 * result.parts[part]
        # What is not asked for is not had: all alike, pancreas and the rest; or apart, the pancreas scattered.
        assert after.parts[other] > 1


def module(**options: Any) -> DualSSLModule:
    model = ModelConfig(
        network=DynUNetConfig(filters=(4, 8, 16)), contrastive=ContrastiveConfig(slots=(4, 16, 8, 8), **options)
    )
    return DualSSLModule(model, Preprocessing((3.0, 3.0, 3.0), (-100.0, 240.0), (16, 16, 16)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stride", [1, 2])
def test_each_form_reaches_head_encoder_and_the_decoder_down_to_its_stride_alone(form: str, stride: int) -> None:
    built = module(form=form, stride=stride)
    losses = built.losses(ellipsoid_batch(2, 16), Progress(50, 100))
    losses.results["contrastive"].loss.backward()

    def reached(part: torch.nn.Module) -> bool:
        touched = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part.parameters()]
        assert all(touched) or not any(touched)
        return any(touched)

    network: Any = built.network
    assert reached(built.terms["contrastive"])
    assert reached(network.encoder)
    assert [reached(stage) for stage in network.decoder.stages] == [True, stride == 1]
    assert not reached(network.decoder.output)
    assert not reached(built.terms["restoration"])


def test_the_weight_fades_to_nothing_at_the_end_but_never_within_training() -> None:
    weights = [module(weight=0.5, fade=0.6).terms["contrastive"].weight(Progress(step, 100)) for step in range(100)]  # type: ignore[operator]  # ModuleDict forgets the class
    assert weights[9:61] == [0.5] * 52
    assert weights[80] == pytest.approx(0.25)
    assert weights[99] == pytest.approx(0.5 / 40)
    lasting = module(weight=0.5).terms["contrastive"]
    assert lasting.weight(Progress(99, 100)) == 0.5  # type: ignore[operator]  # ModuleDict forgets the class


def test_what_is_watched_is_computed_on_recorded_steps_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning_modules.contrastive as home

    calls: list[int] = []
    built = module(form="cohesion_separation", structure="none", rings="one")
    plain = home.watch

    def counted(*arguments: Any) -> dict[str, Tensor]:
        calls.append(built.trainer.global_step)
        return plain(*arguments)

    monkeypatch.setattr(home, "watch", counted)
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        max_steps=4,
        accelerator="cpu",
        log_every_n_steps=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = [ellipsoid_batch(2, 16, first=2 * i) for i in range(4)]
    trainer.fit(built, DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))  # type: ignore[arg-type]  # a list will do
    assert calls == [1, 3]
    logged = {name: float(value) for name, value in trainer.logged_metrics.items()}
    assert {"contrastive/cohesion", "contrastive/separation", "cosine/background", "embedding/collapse"} <= set(logged)
    assert logged["loss/contrastive"] == pytest.approx(
        logged["contrastive/cohesion"] + logged["contrastive/separation"]
    )
