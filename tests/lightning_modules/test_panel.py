"""Looking at a batch shows what the training sees, and leaves no trace in it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from ellipsoid_patches import ellipsoid_batch
from torch import nn

from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig, RestorationConfig, SegmentationConfig
from lightning_modules.contrastive import ContrastiveTerm
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.panel import look
from lightning_modules.regions.choices.config import REGIONS, BandConfig
from lightning_modules.schedules import Progress

HALFWAY = Progress(50, 100)


def build(contrast: float = 0.1, restore: float = 1.0, segment: float = 1.0, **restoration: Any) -> DualSSLModule:
    model = ModelConfig(
        network=DynUNetConfig(filters=(4, 8, 16), deep_supervision=True),
        segmentation=SegmentationConfig(segment),
        contrastive=ContrastiveConfig(weight=contrast),
        restoration=RestorationConfig(weight=restore, **restoration),
    )
    return DualSSLModule(model, Preprocessing((3.0, 3.0, 3.0), (-100.0, 240.0), (32, 32, 32)))


def global_numpy() -> str:
    return repr(np.random.get_state())  # noqa: NPY002 - the global state is what must not be drawn from


def test_it_shows_what_the_losses_are_computed_from() -> None:
    module, batch = build(), ellipsoid_batch(3, 32, empty=(1,))
    seen = look(module, batch, HALFWAY)
    views = module.views(batch, HALFWAY)
    assert views.corrupted is not None
    for shown, used in (
        (seen.image, batch.image),
        (seen.label, batch.label),
        (seen.uncertainty, views.uncertainty),
        (seen.prediction, views.clean.logits.sigmoid()),
        (seen.region, views.corrupted.region),
        (seen.corrupted, views.corrupted.image),
        (seen.mask, views.corrupted.mask),
    ):
        assert shown is not None
        assert shown.shape == (3, 1, 32, 32, 32)
        assert shown.dtype == torch.float32
        assert torch.equal(shown, used.float())
    assert seen.region is not None
    assert seen.corrupted is not None
    assert seen.mask is not None
    assert seen.region[0].any()
    assert not seen.region[1].any()
    untouched = seen.mask == 0
    assert torch.equal(seen.corrupted[untouched], seen.image[untouched])
    assert seen.restored is not None
    assert seen.restored.shape == (3, 1, 32, 32, 32)
    assert seen.case == batch.case


def test_without_helpers_there_is_no_m_and_nothing_corrupted() -> None:
    seen = look(build(0, 0), ellipsoid_batch(1, 32), HALFWAY)
    assert (seen.region, seen.corrupted, seen.mask, seen.restored) == (None,) * 4
    assert seen.prediction is not None


def test_contrast_alone_has_its_corrupted_view_and_nothing_restored() -> None:
    seen = look(build(0.1, 0), ellipsoid_batch(1, 32), HALFWAY)
    assert seen.restored is None
    assert seen.mask is not None
    assert seen.mask.any()


@pytest.mark.parametrize("contrast", [0.1, 0.0])
def test_without_segmentation_there_is_no_prediction_to_be_seen(contrast: float) -> None:
    seen = look(build(contrast, segment=0, region=BandConfig()), ellipsoid_batch(1, 32), HALFWAY)
    assert seen.prediction is None
    assert seen.uncertainty is None
    assert seen.region is not None
    assert seen.restored is not None


def test_in_a_single_pass_the_corrupted_half_is_seen_as_such() -> None:
    batch = ellipsoid_batch(4, 32)
    seen = look(build(passes="one", region=BandConfig()), batch, HALFWAY)
    assert seen.mask is not None
    assert seen.corrupted is not None
    assert [bool(mask.any()) for mask in seen.mask] == [False, True, False, True]
    assert torch.equal(seen.corrupted[0], seen.image[0])
    assert not torch.equal(seen.corrupted[1], seen.image[1])


VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"region": REGIONS.config_class(name)()} for name in REGIONS.names()},
    "one pass": {"passes": "one", "region": BandConfig()},
    "shared decoder": {"decoder": "shared"},
    "skip": {"skip": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_trace_is_left(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, batch = build(**VARIANTS[variant]), ellipsoid_batch(2, 32)
    stages = module.network.encoder.stages
    stages[0] = nn.Sequential(stages[0], nn.Dropout(0.5))  # would draw from the global state while training
    # The gather of the contrastive term would wait for the other ranks for ever.
    monkeypatch.setattr(ContrastiveTerm, "forward", lambda *_: pytest.fail("the contrastive term was called"))
    module.train()
    module.network.decoder.eval()
    modes = {name: part.training for name, part in module.named_modules()}
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    copies = [value.clone() for value in batch if isinstance(value, torch.Tensor)]
    states = (torch.get_rng_state(), random.getstate(), global_numpy())

    seen = look(module, batch, HALFWAY)

    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert global_numpy() == states[2]
    assert {name: part.training for name, part in module.named_modules()} == modes
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(map(torch.equal, copies, [value for value in batch if isinstance(value, torch.Tensor)]))
    assert not any(value.requires_grad for value in seen if isinstance(value, torch.Tensor))


def test_a_run_that_has_gone_astray_can_still_be_looked_at() -> None:
    module = build()
    with torch.no_grad():
        next(module.network.parameters()).fill_(torch.nan)
    seen = look(module, ellipsoid_batch(1, 32), HALFWAY)
    assert seen.prediction is not None
    assert bool(seen.prediction.isfinite().all())
