"""Methods with equal seeds start from equal backbones and see equal patches in equal order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from datamodules.batch import PatchBatch
from experiments.configuration import load_experiment
from lightning_modules.dual_ssl import DualSSLModule, Preprocessing
from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]

METHODS = {
    "supervised": ("model.contrastive.weight=0", "model.restoration.weight=0"),
    "dual_ssl": (),
    "contrast alone": ("model.restoration.weight=0",),
    "restoration alone": ("model.contrastive.weight=0",),
    "consistency": (
        "model.contrastive.weight=0",
        "model.restoration.weight=0",
        "data.augmentation={name: gin, views: 2}",
        "model.consistency.weight=1",
    ),
    "skeleton": ("model.contrastive.weight=0", "model.restoration.weight=0", "model.skeleton={weight: 1, stride: 4}"),
    "pretraining": ("model.segmentation.weight=0", "model.restoration.region.name=band"),
}

NETWORKS = {
    "dynunet": "{name: dynunet, filters: [4, 8, 16]}",
    "segresnet": "{name: segresnet, init_filters: 4, blocks_down: [1, 1, 1], blocks_up: [1, 1]}",
    "swin_unetr": "{name: swin_unetr, feature_size: 12, depths: [1, 1, 1, 1], num_heads: [1, 1, 1, 1]}",
    "mednext": "{name: mednext, init_filters: 4}",
}


class Start(NamedTuple):
    """What a run begins with."""

    network: dict[str, torch.Tensor]
    """Before the first step."""
    batches: list[PatchBatch]
    """Of all steps, augmented."""


@pytest.fixture
def start(tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Start]:
    """Fits the tiny experiment with overrides and tells what it began with."""

    def fit(*overrides: str) -> Start:
        seen = Start({}, [])

        def remember(self: DualSSLModule, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
            if not seen.batches:
                seen.network.update({name: value.clone() for name, value in self.network.state_dict().items()})
            seen.batches.append(batch)
            return original(self, batch, batch_idx)

        original = DualSSLModule.training_step
        with monkeypatch.context() as patch:
            patch.setattr(DualSSLModule, "training_step", remember)
            code, _, err = pansite("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=3", *overrides)
        assert code == 0, err
        return seen

    return fit


def equal_batches(a: list[PatchBatch], b: list[PatchBatch]) -> bool:
    return len(a) == len(b) and all(
        one.case == other.case
        and all(torch.equal(x, y) for x, y in zip(one, other, strict=True) if isinstance(x, torch.Tensor))
        for one, other in zip(a, b, strict=True)
    )


def test_every_method_starts_from_the_same_backbone_and_sees_the_same_patches(start: Callable[..., Start]) -> None:
    first = start(*METHODS["supervised"])
    assert len(first.batches) == 3
    assert not equal_batches(first.batches[:1], first.batches[1:2])
    for method in ("dual_ssl", "contrast alone", "restoration alone", "pretraining"):
        other = start(*METHODS[method])
        assert other.network.keys() == first.network.keys()
        for name, value in first.network.items():
            assert torch.equal(value, other.network[name]), (method, name)
        assert equal_batches(first.batches, other.batches), method


def test_a_rival_starts_alike_and_sees_the_same_patches_in_its_own_way(start: Callable[..., Start]) -> None:
    first = start(*METHODS["supervised"])
    other = start(*METHODS["consistency"], "model.features.name=mixstyle")
    assert other.network.keys() == first.network.keys()
    assert all(torch.equal(value, other.network[name]) for name, value in first.network.items())
    for one, two in zip(first.batches, other.batches, strict=True):
        assert one.case == two.case
        assert all(torch.equal(a, b) for a, b in zip(one[1:5], two[1:5], strict=True))
        assert two.second is not None
        assert not torch.equal(one.image, two.image)
        assert not torch.equal(two.image, two.second)


def test_another_seed_is_another_start_and_another_backbone_sees_the_same_patches(start: Callable[..., Start]) -> None:
    first = start(*METHODS["supervised"])
    other = start(*METHODS["supervised"], "seed=1")
    assert not any(torch.equal(v, other.network[n]) for n, v in first.network.items() if v.ndim == 5)
    assert not equal_batches(first.batches, other.batches)
    segresnet = start(*METHODS["supervised"], f"model.network={NETWORKS['segresnet']}")
    assert equal_batches(first.batches, segresnet.batches)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_backbone_of_any_kind_is_the_same_whatever_terms_are_built(network: str, tiny: Tiny) -> None:
    start: dict[str, torch.Tensor] = {}
    for method, overrides in METHODS.items():
        torch.manual_seed(len(method))  # what has been drawn before must not matter
        config = load_experiment(
            tiny.file, [*overrides, f"model.network={NETWORKS[network]}", "data.patch_size=[64, 32, 32]", "seed=7"]
        ).config
        preprocessing = Preprocessing((6.0, 6.0, 6.0), config.data.window, config.data.patch_size)
        state = DualSSLModule(config.model, preprocessing, config.seed).network.state_dict()
        start = start or state
        assert state.keys() == start.keys()
        for name, value in start.items():
            assert torch.equal(value, state[name]), (method, name)
