"""Without segmentation the network is pretrained: what no term reaches stays, and nothing pretends to segment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ellipsoid_patches import ellipsoid_batch
from torch.utils.data import DataLoader

from datamodules.batch import PatchBatch, VolumeBatch
from datamodules.errors import UsageError
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import AdamWConfig, ContrastiveConfig, RestorationConfig, SegmentationConfig
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.panel import look
from lightning_modules.regions.choices.config import REGIONS
from lightning_modules.schedules import Progress

FULL = Progress(50, 100)


def build(
    contrast: float = 0.1, restore: float = 1.0, region: str = "band", segment: float = 0.0, **options: Any
) -> DualSSLModule:
    model = ModelConfig(
        network=DynUNetConfig(filters=(4, 8, 16), deep_supervision=True),
        segmentation=SegmentationConfig(segment),
        contrastive=ContrastiveConfig(weight=contrast, **options.get("contrastive", {})),
        restoration=RestorationConfig(
            weight=restore, region=REGIONS.config_class(region)(), **options.get("restoration", {})
        ),
        optimizer=AdamWConfig(lr=1e-2, weight_decay=0.1),
    )
    return DualSSLModule(model, Preprocessing((3.0, 3.0, 3.0), (-100.0, 240.0), (32, 32, 32)))


def loader(batches: list[Any]) -> DataLoader[Any]:
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]  # a list will do


def volume() -> VolumeBatch:
    batch: PatchBatch = ellipsoid_batch(1)
    return VolumeBatch(batch.image, batch.label, "site", "a", "")


WAYS: dict[str, dict[str, Any]] = {
    "both": {},
    "contrast alone": {"restore": 0},
    "contrast at stride 1": {"restore": 0, "contrastive": {"stride": 1}},
    "contrast of the clean view": {"contrastive": {"views": "clean"}},
    "restoration alone": {"contrast": 0},
    "in one pass": {"restoration": {"passes": "one"}},
    "restoration alone, in one pass": {"contrast": 0, "restoration": {"passes": "one"}},
    "shared decoder": {"restoration": {"decoder": "shared"}},
    "shared decoder, no contrast": {"contrast": 0, "restoration": {"decoder": "shared"}},
    "detached, beside contrast": {"restoration": {"detach_encoder": True}},
    "random region": {"region": "random"},
    "whole region": {"region": "whole"},
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_frozen_is_what_the_loss_reaches(way: str) -> None:
    """Else DDP would wait for gradients that never come, and weight decay would eat weights that nothing trains."""
    module = build(**WAYS[way])
    losses = module.losses(ellipsoid_batch(2), FULL)
    assert list(losses.results) == [name for name in ("contrastive", "restoration") if name in module.terms]
    assert losses.total.isfinite()
    losses.total.backward()
    reached = {name for name, p in module.named_parameters() if p.grad is not None}
    assert reached == {name for name, p in module.named_parameters() if p.requires_grad}
    assert reached >= {f"network.encoder.{name}" for name, _ in module.network.encoder.named_parameters()}
    assert not any(name.startswith(("network.decoder.output", "network.decoder.deep")) for name in reached)


def test_pretraining_moves_the_encoder_and_leaves_frozen_weights_to_the_bit(tmp_path: Path) -> None:
    module = build()
    start = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_steps=3, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, check_val_every_n_epoch=None, val_check_interval=3, num_sanity_val_steps=0,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, loader([ellipsoid_batch(2, first=2 * i) for i in range(3)]), loader([volume()]))
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    assert any(name.startswith("network.decoder.output") for name in frozen)
    assert any(name.startswith("network.decoder.stages.1") for name in frozen)
    optimised = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    for name, value in module.named_parameters():
        assert torch.equal(value, start[name]) == (name in frozen), name
        assert (id(value) in optimised) == (name not in frozen), name
    # Nothing could be validated, so nothing was.
    assert "val/dice" not in trainer.callback_metrics


def test_its_uncertainty_is_the_same_everywhere_and_its_logits_are_none() -> None:
    module = build()
    views = module.views(ellipsoid_batch(2), FULL)
    assert torch.equal(views.uncertainty, torch.ones_like(views.batch.image))
    assert torch.equal(views.clean.logits, torch.zeros_like(views.batch.image))
    assert sorted(views.clean.decoder) == [2]


@pytest.mark.parametrize("contrast", [0.1, 0.0])
def test_its_panel_shows_what_there_is(contrast: float) -> None:
    seen = look(build(contrast), ellipsoid_batch(2), FULL)
    assert seen.prediction is None
    assert seen.restored is not None
    assert seen.restored.shape == seen.image.shape


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("both", (2, 2)),
        ("contrast of the clean view", (2, 1)),
        ("contrast alone", (2, 2)),
        ("restoration alone", (1, 0)),
        ("shared decoder, no contrast", (1, 1)),
        ("in one pass", (1, 1)),
    ],
)
def test_passes_that_no_term_reads_are_not_run(way: str, expected: tuple[int, int]) -> None:
    module = build(**WAYS[way])
    ran: list[str] = []
    module.network.encoder.register_forward_hook(lambda *_: ran.append("encoder"))
    # The coarsest stage runs wherever any of the decoder does.
    module.network.decoder.stages[0].register_forward_hook(lambda *_: ran.append("decoder"))
    module.losses(ellipsoid_batch(2), FULL)
    assert (ran.count("encoder"), ran.count("decoder")) == expected


@pytest.mark.slow
def test_a_compiled_network_is_pretrained_alike() -> None:
    losses = []
    for backend in ("aot_eager", None):
        module = build()
        if backend:
            module.network.compile(backend=backend)
        total = module.losses(ellipsoid_batch(2), FULL).total
        total.backward()
        losses.append((total.detach(), *[p.grad for p in module.parameters() if p.grad is not None]))
    for compiled, plain in zip(*losses, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4)


def test_what_is_only_pretrained_predicts_nothing() -> None:
    with pytest.raises(UsageError, match=r"model\.segmentation\.weight: 0.*model\.init"):
        build().test_step(volume(), 0)


def test_the_weight_of_segmentation_weighs_it() -> None:
    batch = ellipsoid_batch(2)
    once, twice = (build(0, 0, segment=weight).losses(batch, FULL) for weight in (1.0, 2.0))
    torch.testing.assert_close(twice.total, 2 * once.total)
    torch.testing.assert_close(twice.results["segmentation"].loss, once.results["segmentation"].loss)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"contrast": 0, "restore": 0}, r"model\.segmentation\.weight: is 0, as are .*nothing would be trained"),
        *[
            ({"region": region}, rf"model\.restoration\.region\.name: {region.replace('+', '.')} asks for a prediction")
            for region in ("entropy+band", "entropy", "mc_dropout", "ema_teacher")
        ],
        ({"contrastive": {"sampling": "uncertain"}}, r"model\.contrastive\.sampling: uncertain asks for a prediction"),
        ({"contrast": 0, "restoration": {"detach_encoder": True}}, r"model\.restoration\.detach_encoder: keeps"),
        ({"segment": -1.0}, r"model\.segmentation\.weight: -1\.0 is below 0"),
    ],
)
def test_what_needs_a_prediction_or_trains_nothing_is_refused_in_a_sentence(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence) as error:
        build(**options)
    assert "\n" not in str(error.value)


def test_with_segmentation_all_of_it_is_allowed() -> None:
    for region in REGIONS.names():
        assert all(p.requires_grad for p in build(region=region, segment=1.0).network.parameters())
