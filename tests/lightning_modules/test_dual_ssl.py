"""The module that joins the terms: what is built, what a gradient reaches, what is recorded and kept."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ellipsoid_patches import ellipsoid_batch, part
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batch import PatchBatch, VolumeBatch
from datamodules.errors import UsageError
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import (
    AdamWConfig,
    ContrastiveConfig,
    CorruptionConfig,
    CosineConfig,
    RestorationConfig,
    SGDConfig,
)
from lightning_modules.loading import load_module
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.regions.structure import REGION_NAMES
from lightning_modules.schedules import Progress

SPACING = (3.0, 3.0, 3.0)
START = Progress(0, 100)
FULL = Progress(50, 100)


def build(contrast: float = 0.1, restore: float = 1.0, seed: int = 0, **options: Any) -> DualSSLModule:
    size = options.pop("size", 32)
    model = ModelConfig(
        network=options.pop("network", DynUNetConfig(filters=(4, 8, 16))),
        contrastive=ContrastiveConfig(weight=contrast, **options.pop("contrastive", {})),
        restoration=RestorationConfig(weight=restore, **options.pop("restoration", {})),
        **options,
    )
    return DualSSLModule(model, Preprocessing(SPACING, (-100.0, 240.0), (size,) * 3), seed)


class Recorder(Callback):
    """Keeps what reaches the loggers after each step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rows.append({name: float(value) for name, value in trainer.logged_metrics.items()})


def fit(
    module: DualSSLModule,
    folder: Path,
    steps: int = 4,
    log_every: int = 1,
    volumes: list[VolumeBatch] | None = None,
    accumulate: int = 1,
) -> tuple[pl.Trainer, Recorder]:
    recorder = Recorder()
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_steps=steps,
        accelerator="cpu",
        log_every_n_steps=log_every,
        accumulate_grad_batches=accumulate,
        check_val_every_n_epoch=None,
        val_check_interval=steps * accumulate,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder],
    )
    batches = [ellipsoid_batch(2, 32, first=2 * i) for i in range(steps * accumulate)]
    trainer.fit(module, loader(batches), loader(volumes) if volumes else None)
    return trainer, recorder


def loader(batches: list[Any]) -> DataLoader[Any]:
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]  # a list will do


def volume(case: str, size: int = 32, empty: bool = False) -> VolumeBatch:
    batch = ellipsoid_batch(1, size, empty=(0,) if empty else ())
    return VolumeBatch(batch.image, batch.label, "site", case, "")


def gradients(module: DualSSLModule, loss: Tensor) -> dict[str, float]:
    """Sum of the absolute gradient by the parts of the module."""
    module.zero_grad()
    loss.backward()
    parts = {
        "encoder": module.network.encoder,
        "decoder": module.network.decoder.stages,
        "segmentation head": module.network.decoder.output,
        **{name: term for name, term in module.terms.items() if name != "segmentation"},
    }
    return {
        name: sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None)
        for name, part in parts.items()
    }


def test_a_term_without_weight_is_not_built() -> None:
    supervised = build(0, 0)
    assert list(supervised.terms) == ["segmentation"]
    assert supervised.corrupted_pass is None
    assert set(supervised.state_dict()) == {f"network.{name}" for name in supervised.network.state_dict()}
    assert list(build(0.1, 0).terms) == ["segmentation", "contrastive"]
    assert build(0.1, 0, contrastive={"views": "clean"}).corrupted_pass is None
    assert build(0.1, 0, restoration={"passes": "one"}).corrupted_pass is None
    assert list(build(0, 1).terms) == ["segmentation", "restoration"]


def test_passes_are_run_only_as_far_as_a_term_needs_them() -> None:
    counts = {"encoder": 0, "decoder": 0}
    for contrast, restore, options, expected in (
        (0, 0, {}, (1, 1)),
        (0.1, 0, {"contrastive": {"views": "clean"}}, (1, 1)),
        (0.1, 0, {}, (2, 2)),
        (0.1, 1, {}, (2, 2)),
        (0, 1, {"restoration": {"segment_corrupted": False}}, (2, 1)),
        (0.1, 1, {"restoration": {"segment_corrupted": False}, "contrastive": {"views": "clean"}}, (2, 1)),
        (0.1, 1, {"restoration": {"segment_corrupted": False}}, (2, 2)),
    ):
        module = build(contrast, restore, **options)
        for name in counts:
            counts[name] = 0
            getattr(module.network, name).register_forward_hook(
                lambda *_, name=name: counts.__setitem__(name, counts[name] + 1)
            )
        module.losses(ellipsoid_batch(2), FULL)
        assert (counts["encoder"], counts["decoder"]) == expected


def test_contrast_alone_sees_the_corrupted_view_and_segments_the_clean_one() -> None:
    batch = ellipsoid_batch(2)
    both, clean = build(0.1, 0), build(0.1, 0, contrastive={"views": "clean"})
    seen, ours = both.losses(batch, FULL).results, clean.losses(batch, FULL).results
    assert torch.equal(seen["segmentation"].loss, ours["segmentation"].loss)
    assert not torch.isclose(seen["contrastive"].loss, ours["contrastive"].loss)
    corrupted, restored = both.views(batch, FULL).corrupted, build(0.1, 1).views(batch, FULL).corrupted
    assert corrupted is not None
    assert restored is not None
    assert torch.equal(corrupted.image, restored.image), "as with restoration"


def test_methods_of_equal_seed_start_from_equal_backbones() -> None:
    torch.manual_seed(1)
    modules = [build(c, r, seed=7) for c, r in ((0, 0), (0.1, 0), (0, 1), (0.1, 1))]
    torch.manual_seed(2)
    modules.append(build(seed=7))
    for module in modules[1:]:
        for name, value in modules[0].network.state_dict().items():
            assert torch.equal(value, module.network.state_dict()[name])
    for name, value in modules[3].state_dict().items():
        assert torch.equal(value, modules[4].state_dict()[name])


def test_the_total_is_the_weighted_sum_and_weights_ramp_from_the_first_step() -> None:
    module = build(0.2, 0.5)
    for progress, share in ((START, 0.1), (Progress(4, 100), 0.5), (FULL, 1.0)):
        losses = module.losses(ellipsoid_batch(2), progress)
        parts = {name: result.loss for name, result in losses.results.items()}
        expected = parts["segmentation"] + share * (0.2 * parts["contrastive"] + 0.5 * parts["restoration"])
        torch.testing.assert_close(losses.total, expected)


def test_contrast_reaches_head_decoder_and_encoder_but_never_the_segmentation_head() -> None:
    module = build()
    reached = gradients(module, module.losses(ellipsoid_batch(2), FULL).results["contrastive"].loss)
    assert reached["segmentation head"] == 0
    assert reached["restoration"] == 0
    assert min(reached["encoder"], reached["decoder"], reached["contrastive"]) > 0
    # Up to its own level: the stage that leads to stride 1 lies beyond it.
    assert all(p.grad is None for p in module.network.decoder.stages[-1].parameters())


def test_restoration_reaches_the_thin_decoder_and_the_encoder_alone() -> None:
    module = build()
    reached = gradients(module, module.losses(ellipsoid_batch(2), FULL).results["restoration"].loss)
    assert reached["segmentation head"] == reached["decoder"] == reached["contrastive"] == 0
    assert min(reached["encoder"], reached["restoration"]) > 0


def test_segmenting_the_corrupted_image_is_averaged_with_the_clean_one() -> None:
    batch = ellipsoid_batch(2)
    clean = build(0, 0).losses(batch, FULL).total
    both = build(0, 1).losses(batch, FULL).results["segmentation"].loss
    without = build(0, 1, restoration={"segment_corrupted": False}).losses(batch, FULL).results["segmentation"].loss
    torch.testing.assert_close(without, clean)
    assert not torch.isclose(both, clean)


def test_the_corrupted_image_is_segmented_by_cross_entropy_alone_where_that_has_a_weight() -> None:
    batch = ellipsoid_batch(2)
    module = build(0, 1, restoration={"cross_entropy": 4.0})
    corrupted = module.views(batch, FULL).corrupted
    assert corrupted is not None
    assert corrupted.decoded is not None
    probability = corrupted.decoded.logits.double().sigmoid()
    entropy = -torch.where(batch.label > 0, probability, 1 - probability).log().mean()
    clean = build(0, 0).losses(batch, FULL).total
    found = module.losses(batch, FULL).results["segmentation"].loss
    torch.testing.assert_close(found.double(), (clean.double() + 4 * entropy) / 2)


def test_corruption_grows_along_its_ramp() -> None:
    batch = ellipsoid_batch(2)
    module = build(0, 1, restoration={"corruption": CorruptionConfig(decoys=0.5, ramp=0.5)})

    def corrupted(step: int) -> Tensor:
        view = module.views(batch, Progress(step, 100)).corrupted
        assert view is not None
        return view.mask

    start, middle, full, end = (corrupted(step) for step in (0, 24, 49, 80))
    assert start.float().mean() < 0.1 * full.float().mean()
    assert 0.2 < middle.float().mean() / full.float().mean() < 0.8
    assert not (middle & ~full).any(), "the same cells, and more"
    assert full.float().mean() == pytest.approx(float(end.float().mean()), abs=0.1)


def test_segmentation_and_restoration_are_means_over_samples_whatever_the_batch() -> None:
    module = build(0, 1)
    batch = ellipsoid_batch(4, empty=(2,))
    together = module.losses(batch, FULL).results
    alone = [module.losses(part(batch, sample), FULL).results for sample in range(4)]
    for name in ("segmentation", "restoration"):
        mean = torch.stack([results[name].loss for results in alone]).mean()
        torch.testing.assert_close(together[name].loss, mean)


@pytest.mark.parametrize("mask", ["empty", "full", "one voxel", "far"])
def test_everything_is_finite_in_bf16_for_odd_masks(mask: str) -> None:
    module = build()
    batch = ellipsoid_batch(2, 16, empty=(0, 1))
    if mask == "full":
        batch = batch._replace(
            label=torch.ones_like(batch.label),
            distance=torch.full_like(batch.distance, -100),
            axis=torch.full_like(batch.axis, 0.5),
        )
    elif mask == "one voxel":
        for field, value in ((batch.label, 1.0), (batch.distance, -1.5), (batch.axis, 0.0)):
            field[:, :, 8, 8, 8] = value
    with torch.autocast("cpu", torch.bfloat16):
        losses = module.losses(batch, FULL)
    losses.total.backward()
    assert losses.total.dtype == torch.float32
    assert losses.total.isfinite()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_deep_supervision_trains_its_heads() -> None:
    module = build(0, 1, network=DynUNetConfig(filters=(4, 8, 16, 16), deep_supervision=True))
    module.losses(ellipsoid_batch(2), FULL).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.network.decoder.deep.parameters())


def test_a_step_records_the_losses_gradient_norms_fill_region_and_rate(tmp_path: Path) -> None:
    _, recorder = fit(build(), tmp_path, steps=4, log_every=2)
    assert recorder.rows[0] == {}
    row = recorder.rows[1]
    terms = ("segmentation", "contrastive", "restoration")
    assert set(row) == {
        "loss/total",
        "lr",
        "region/inside",
        "region/outside",
        "region/band_excess",
        "region/corrupted",
        *(f"loss/{term}" for term in terms),
        *(f"grad_norm/{term}" for term in terms),
        *(f"fill/{region}" for region in REGION_NAMES),
        *(f"cosine/{ring}" for ring in ("near", "mid", "far")),
        *(f"embedding/{score}" for score in ("collapse", "centroid_similarity", "effective_rank_score")),
    }
    assert all(row[f"grad_norm/{term}"] > 0 for term in terms)
    assert 0 < row["region/corrupted"] < 0.5
    assert 0 <= row["region/band_excess"] < 1


def test_gradient_norms_are_those_of_the_weighted_losses(tmp_path: Path) -> None:
    _, recorder = fit(build(seed=3), tmp_path, steps=1)
    module = build(seed=3)
    losses = module.losses(ellipsoid_batch(2), Progress(0, 1))
    for name, loss in losses.weighted.items():
        module.zero_grad()
        loss.backward(retain_graph=True)
        norm = torch.cat([p.grad.flatten() for p in module.network.encoder_parameters() if p.grad is not None]).norm()
        assert recorder.rows[0][f"grad_norm/{name}"] == pytest.approx(float(norm), rel=1e-5)


def test_recording_alters_no_bit_of_the_training(tmp_path: Path) -> None:
    often, seldom = build(seed=3), build(seed=3)
    fit(often, tmp_path, log_every=1)
    fit(seldom, tmp_path, log_every=1000)
    start = build(seed=3).state_dict()
    for name, value in often.state_dict().items():
        assert torch.equal(value, seldom.state_dict()[name])
    assert any(not torch.equal(value, start[name]) for name, value in often.state_dict().items())


def test_an_accumulated_step_records_the_mean_of_its_batches(tmp_path: Path) -> None:
    module = build(0, 0, optimizer=SGDConfig(lr=0.0))
    _, recorder = fit(module, tmp_path, steps=1, accumulate=2)
    losses = [float(module.losses(ellipsoid_batch(2, first=2 * i), START).total.detach()) for i in range(2)]
    assert recorder.rows[-1]["loss/total"] == pytest.approx(sum(losses) / 2)


def test_training_learns_to_find_the_organ(tmp_path: Path) -> None:
    module = build(seed=1, optimizer=AdamWConfig(lr=1e-2))
    trainer, _ = fit(module, tmp_path, steps=20, log_every=100, volumes=[volume("a"), volume("b")])
    assert trainer.callback_metrics["val/dice"] > 0.6


def test_validation_is_the_mean_over_cases_each_counted_once(tmp_path: Path) -> None:
    module = build(0, 0, optimizer=SGDConfig(lr=0.0, weight_decay=0.0))
    with torch.no_grad():
        for parameter in module.network.decoder.output.parameters():
            parameter.zero_()
        # Says "nothing" everywhere: 1 for the empty case, 0 for the other, however often that one is seen.
        list(module.network.decoder.output.parameters())[-1].fill_(-5)
    volumes = [volume("a"), volume("a"), volume("none", empty=True)]
    trainer, _ = fit(module, tmp_path, steps=1, volumes=volumes)
    assert float(trainer.callback_metrics["val/dice"]) == 0.5


def test_a_test_step_hands_over_the_probability_of_the_whole_volume() -> None:
    module = build(0, 0).eval()
    case = volume("a", size=40)
    probability = module.test_step(case, 0).probability
    assert probability.shape == case.image.shape
    assert probability.dtype == torch.float32
    assert 0 <= probability.min() <= probability.max() <= 1
    torch.testing.assert_close(probability, module.predict_probability(case.image))


def test_a_checkpoint_of_plain_containers_rebuilds_the_module(tmp_path: Path) -> None:
    module = build(
        0.3,
        0.7,
        seed=5,
        optimizer=SGDConfig(momentum=0.5),
        schedule=CosineConfig(floor=0.1),
        contrastive={"stride": 1},
    )
    trainer, _ = fit(module, tmp_path, steps=1)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    for loaded in (load_module(path), DualSSLModule.load_from_checkpoint(path, weights_only=True)):
        assert loaded.config == module.config
        assert loaded.preprocessing == module.preprocessing
        for name, value in module.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name])
    assert not load_module(path).training


@pytest.mark.parametrize("content", ["text", "tensor", "other module", "missing", "cut"])
def test_a_checkpoint_that_is_not_ours_is_refused_in_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "some.ckpt"
    if content == "text":
        path.write_text("hello")
    elif content == "tensor":
        torch.save(torch.zeros(3), path)
    elif content == "other module":
        torch.save({"state_dict": {}, "hyper_parameters": {"width": 3}}, path)
    elif content == "cut":
        torch.save({"state_dict": build().state_dict()}, path)
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"some\.ckpt: ") as error:
        load_module(path)
    assert "\n" not in str(error.value)


def test_a_module_that_has_trained_can_be_copied(tmp_path: Path) -> None:
    module = build()
    fit(module, tmp_path, steps=1)
    module.trainer = None
    copied = copy.deepcopy(module)
    batch = ellipsoid_batch(1)
    assert torch.equal(copied.eval()(batch.image), module.eval()(batch.image))


def test_channels_last_alters_the_layout_and_not_the_losses() -> None:
    batch = ellipsoid_batch(2)
    plain, last = build(), build()
    last.use_channels_last()
    weight = last.network.encoder.stages[1].conv1.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(last.losses(batch, FULL).total, plain.losses(batch, FULL).total, rtol=1e-4, atol=1e-5)


def test_a_trainer_without_an_end_is_refused(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=-1, logger=False, enable_progress_bar=False, accelerator="cpu"
    )
    with pytest.raises(UsageError, match=r"trainer\.max_steps"):
        trainer.fit(build(0, 0), loader([ellipsoid_batch(1)]))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"size": 30}, r"data\.patch_size"),
        ({"size": 4}, r"data\.patch_size"),
        ({"contrast": -1.0}, r"model\.contrastive\.weight"),
        ({"restore": -1.0}, r"model\.restoration\.weight"),
        ({"contrastive": {"stride": 4}}, r"model\.contrastive\.stride.* at 1, 2"),
        ({"network": DynUNetConfig(filters=(4, 8))}, r"model\.network\.filters"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_by_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError, match=key):
        build(**options)


def test_the_share_of_the_region_must_be_one() -> None:
    from lightning_modules.regions.choices.config import EntropyBandConfig

    with pytest.raises(UsageError, match=r"model\.restoration\.region\.share"):
        build(restoration={"region": EntropyBandConfig(share=0.0)})


def test_supervised_batches_need_no_structure() -> None:
    batch = ellipsoid_batch(2)
    nothing = torch.full_like(batch.distance, torch.nan)
    blind = PatchBatch(batch.image, batch.label, nothing, nothing, batch.key, batch.case)
    module = build(0, 0)
    torch.testing.assert_close(module.losses(blind, FULL).total, module.losses(batch, FULL).total)


def test_no_buffer_makes_ddp_wait_in_steps_of_which_ranks_have_different_numbers() -> None:
    module = DualSSLModule(ModelConfig(), Preprocessing((3.0, 3.0, 3.0), (-100.0, 240.0), (32, 32, 32)))
    assert not list(module.buffers())
