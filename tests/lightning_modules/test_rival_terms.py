"""Second view, consistency, fusion and the contrast of the skeleton: values, gradients and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ellipsoid_patches import ellipsoid_batch, part
from monai.losses.cldice import soft_skel
from torch import Tensor
from torch.distributions import Bernoulli, kl_divergence

from datamodules.batch import PatchBatch
from datamodules.errors import UsageError
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig, RestorationConfig
from lightning_modules.fusion import fuse, saliency
from lightning_modules.loading import load_module
from lightning_modules.losses.consistency import consistency_loss
from lightning_modules.losses.segmentation import segmentation_loss
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.panel import look
from lightning_modules.rivals_config import ConsistencyConfig, MixStyleConfig, SkeletonConfig
from lightning_modules.schedules import Progress
from lightning_modules.skeleton_contrast import BACKGROUND, SKELETON, skeleton, skeleton_cells

FULL = Progress(50, 100)


def build(restore: float = 0.0, **options: object) -> DualSSLModule:
    model = ModelConfig(
        network=DynUNetConfig(filters=(4, 8, 16)),
        contrastive=ContrastiveConfig(weight=0.02 if restore else 0.0),
        restoration=RestorationConfig(weight=restore),
        **options,  # type: ignore[arg-type]  # of ModelConfig
    )
    return DualSSLModule(model, Preprocessing((3.0, 3.0, 3.0), (-100.0, 240.0), (16, 16, 16))).train()


def two_views(samples: int = 2, size: int = 16) -> PatchBatch:
    batch = ellipsoid_batch(samples, size)
    return batch._replace(second=1 - batch.image)


def logits(seed: int) -> Tensor:
    return 3 * torch.randn(2, 1, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_consistency_is_the_divergence_of_the_two_bernoulli_distributions() -> None:
    one, other = logits(0), logits(1)
    p, q = Bernoulli(logits=one), Bernoulli(logits=other)
    middle = Bernoulli(probs=(p.probs + q.probs) / 2)
    expected = {
        "kl": (kl_divergence(p, q) + kl_divergence(q, p)).mean() / 2,
        "js": (kl_divergence(p, middle) + kl_divergence(q, middle)).mean() / 2,
        "mse": (p.probs - q.probs).square().mean(),
    }
    for measure, value in expected.items():
        torch.testing.assert_close(consistency_loss(one, other, measure), value)  # type: ignore[arg-type]
        torch.testing.assert_close(consistency_loss(other, one, measure), value)  # type: ignore[arg-type]
        assert consistency_loss(one, one, measure).item() == pytest.approx(0, abs=1e-12)  # type: ignore[arg-type]
    far = torch.full((1, 1, 2, 2, 2), 80.0).bfloat16().requires_grad_()
    for measure in expected:
        loss = consistency_loss(far, -far, measure)  # type: ignore[arg-type]
        loss.backward()
        assert loss.isfinite()
        assert far.grad is not None
        assert far.grad.isfinite().all()


def test_both_views_are_segmented_and_consistency_reaches_the_encoder_through_both() -> None:
    module, batch = build(consistency=ConsistencyConfig(weight=10.0)), two_views()
    losses = module.losses(batch, FULL)
    first, second = (module.network(image).logits for image in (batch.image, batch.second))
    results = losses.results
    both = (segmentation_loss(first, batch.label) + segmentation_loss(second, batch.label)) / 2
    torch.testing.assert_close(results["segmentation"].loss, both)
    torch.testing.assert_close(results["consistency"].loss, consistency_loss(first, second, "kl"))
    torch.testing.assert_close(losses.total, both + 10 * results["consistency"].loss)
    results["consistency"].loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.network.encoder.stages[0].parameters())
    alone = [module.losses(part_of(batch, i), FULL).results["consistency"].loss for i in range(2)]
    torch.testing.assert_close(results["consistency"].loss, torch.stack(alone).mean())


def part_of(batch: PatchBatch, sample: int) -> PatchBatch:
    assert batch.second is not None
    return part(batch, sample)._replace(second=batch.second[sample : sample + 1])


def test_consistency_without_a_second_view_is_refused_and_ramps_like_the_others() -> None:
    module = build(consistency=ConsistencyConfig(weight=10.0))
    with pytest.raises(UsageError, match=r"model\.consistency\.weight: needs batches of two views"):
        module.losses(ellipsoid_batch(2, 16), FULL)
    losses = module.losses(two_views(), Progress(0, 100))
    torch.testing.assert_close(losses.weighted["consistency"], losses.results["consistency"].loss)


def test_a_term_without_weight_is_not_built() -> None:
    module = build()
    assert list(module.terms) == ["segmentation"]
    assert list(build(skeleton=SkeletonConfig(weight=1.0, stride=4)).terms) == ["segmentation", "skeleton"]
    once = module.losses(ellipsoid_batch(2, 16), FULL).total
    assert not torch.equal(module.losses(two_views(), FULL).total, once)


def test_the_fusion_keeps_the_first_view_where_its_loss_is_most_sensitive() -> None:
    module, batch = build(fusion="saliency"), two_views()
    assert batch.second is not None
    image = batch.image.clone().requires_grad_()
    features = module.network(image).logits
    fused = fuse(image, batch.second, features, batch.label)
    assert not fused.requires_grad
    (gradient,) = torch.autograd.grad(segmentation_loss(features, batch.label), image)
    share = saliency(gradient)
    assert share.amin((1, 2, 3, 4)).tolist() == pytest.approx([0, 0], abs=0.1)
    assert share.amax((1, 2, 3, 4)).tolist() == pytest.approx([1, 1], abs=0.1)
    torch.testing.assert_close(fused, share * batch.image + (1 - share) * batch.second, atol=1e-4, rtol=1e-4)
    results = module.losses(batch, FULL).results
    second = module.network(fused).logits
    expected = (segmentation_loss(features, batch.label) + segmentation_loss(second, batch.label)) / 2
    torch.testing.assert_close(results["segmentation"].loss, expected, atol=1e-4, rtol=1e-4)
    # A sample is fused alike whatever else is in its batch.
    single = batch.image[1:].clone().requires_grad_()
    alone = fuse(single, batch.second[1:], module.network(single).logits, batch.label[1:])
    torch.testing.assert_close(alone, fused[1:], atol=1e-4, rtol=1e-4)
    assert batch.image.grad is None
    assert not batch.image.requires_grad


def test_a_look_without_a_gradient_spares_the_second_view() -> None:
    for options in ({"fusion": "saliency"}, {"consistency": ConsistencyConfig(weight=1.0)}):
        module = build(**options)  # type: ignore[arg-type]
        seen = look(module, two_views(), FULL)
        assert torch.equal(seen.image, two_views().image)
        assert module.training


def test_the_skeleton_lies_inside_and_runs_through_the_organ() -> None:
    label = torch.zeros(1, 1, 16, 16, 16)
    label[..., 5:10, 5:10] = 1  # a bar along D, through both faces of the patch
    cells = skeleton_cells(label, 4, 8)[0]
    assert (cells[:, 1:3, 1:3] == SKELETON).any(1).any(1).all()
    assert (cells[:, [0, 3]] == BACKGROUND).all()
    assert (skeleton_cells(label, 1, 8)[0][(label == 0)[0, 0]] == BACKGROUND).all()
    thin = skeleton_cells(label, 1, 8)[0] == SKELETON
    assert 0 < thin.sum() < label.sum() / 3
    assert (skeleton_cells(torch.zeros_like(label), 4, 8) == BACKGROUND).all()


def test_the_skeleton_is_monais_of_a_mask() -> None:
    rough = (torch.rand(2, 1, 9, 14, 11, generator=torch.Generator().manual_seed(0)) > 0.2).float()
    for label in (ellipsoid_batch(2, 24).label, rough, torch.ones(1, 1, 6, 6, 6)):
        for layers in (0, 3, 9):
            assert torch.equal(skeleton(label > 0, layers), soft_skel(label, layers) > 0.5)


@pytest.mark.parametrize("empty", [(), (0,), (0, 1)])
def test_the_skeleton_contrast_is_nt_xent_guided_by_the_label(empty: tuple[int, ...]) -> None:
    batch = ellipsoid_batch(2, 16, empty=empty)
    module = build(skeleton=SkeletonConfig(weight=0.1, stride=4, slots=(64, 64)))
    result = module.losses(batch, FULL).results["skeleton"]
    result.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.terms["skeleton"].parameters())
    reached = module.network.encoder.stages[0].parameters()
    assert result.log["fill/skeleton"] == 1 - len(empty) / 2
    if len(empty) == 2:
        assert result.loss == 0
        return
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in reached)
    # All cells have a slot, so the draw does not matter: every pair by hand.
    cells = skeleton_cells(batch.label, 4, 9).flatten()
    encoder = module.network.encode(batch.image)[4].flatten(2).transpose(1, 2).flatten(0, 1)
    z = module.terms["skeleton"].term.head(encoder)  # type: ignore[union-attr, operator]
    similar = (z @ z.T / 0.1).detach().numpy()
    anchors, others = np.flatnonzero(cells == SKELETON), np.flatnonzero(cells == BACKGROUND)
    pushed = np.exp(similar[np.ix_(anchors, others)]).sum(1)
    terms = [
        np.mean([np.log(np.exp(similar[i, p]) + out) - similar[i, p] for p in anchors if p != i])
        for i, out in zip(anchors, pushed, strict=True)
    ]
    assert float(result.loss.detach()) == pytest.approx(float(np.mean(terms)), rel=1e-3)


def test_the_method_trains_on_two_views_with_every_rivals_part_and_its_checkpoint_predicts(tmp_path: Path) -> None:
    module = build(
        restore=1.0,
        consistency=ConsistencyConfig(weight=1.0, measure="js"),
        skeleton=SkeletonConfig(weight=0.1, stride=4),
        features=MixStyleConfig(),
    )
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for _ in range(2):
        losses = module.losses(two_views(), FULL)
        assert set(losses.weighted) == {"segmentation", "contrastive", "restoration", "consistency", "skeleton"}
        losses.total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        optimizer.step()
        optimizer.zero_grad()
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(content, tmp_path / "last.ckpt")
    loaded = load_module(tmp_path / "last.ckpt")
    assert loaded.config == module.config
    image = ellipsoid_batch(1, 16).image
    assert torch.equal(loaded(image), module.eval()(image))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (
            {"skeleton": SkeletonConfig(weight=1.0)},
            r"model\.skeleton\.stride: dynunet has encoder features at .* not at 8",
        ),
        ({"features": MixStyleConfig(strides=(1, 8))}, r"model\.features\.strides"),
        ({"fusion": "saliency", "restore": 1.0}, r"model\.fusion"),
        ({"consistency": ConsistencyConfig(weight=-1.0)}, r"model\.consistency\.weight"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_by_key(options: dict[str, object], key: str) -> None:
    with pytest.raises(UsageError, match=key):
        build(**options)  # type: ignore[arg-type]
