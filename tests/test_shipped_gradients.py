"""In the shipped experiments every term of the loss has a real share of the encoder's gradient, and none rules.

Real training on real phantom patches. It is made cheaper in one way: patches are smaller where the network learns, and
as shipped where the gradients are measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from datamodules.batch import PatchBatch
from datamodules.patches import collate
from datamodules.single_source import SingleSourceDataModule
from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.locate import find_experiment
from experiments.run_folder import RunFolder
from experiments.training import build_module, build_trainer
from lightning_modules.dual_ssl import DualSSLModule
from lightning_modules.gradient_share import gradient_norms
from lightning_modules.schedules import Progress
from tests.conftest import Tiny

HELPERS = ("contrastive", "restoration")
START, LATER = range(20, 51, 10), range(310, 351, 10)
"""Steps of the 5,000 of ``phantom_dual_ssl`` at which gradients are measured: early in the ramp of the weights, and
when it is over. In between, the network has yet to find the organ: segmentation's own gradient is small, and that of
restoration is above it."""


def resolved(name: str, tiny: Tiny, *overrides: str) -> ExperimentConfig:
    own = [
        f"data.source={{name: source, layout: phantom, site: source, cases: 6, root: {tiny.phantoms}}}",
        "data.held_out={}", f"data.store={tiny.home}/store", "data.split.folds=3", "data.workers=0",
        "trainer.accelerator=cpu", "trainer.devices=1", "trainer.progress_bar=false", "trainer.validate_every=100000",
        "trainer.checkpoint_every=100000", "trainer.log_every=100000", "logging.wandb=disabled",
        "logging.panel_every=0",
    ]  # fmt: skip
    return load_experiment(find_experiment(name), [*own, *overrides]).config


def opened(config: ExperimentConfig) -> SingleSourceDataModule:
    data = SingleSourceDataModule(config.data.training(), config.seed)
    data.prepare_data()
    data.setup()
    return data


def batches(data: SingleSourceDataModule) -> Iterator[PatchBatch]:
    """Batches that come late in the stream: training does not get there."""
    stored, size = data.train_dataloader().dataset, data.data.batch_size
    first = 100_000
    while True:
        yield data.augmentation(collate([stored[position] for position in range(first, first + size)]))
        first += size


def norms(module: DualSSLModule, batch: PatchBatch, progress: Progress) -> dict[str, float]:
    """Of each term's gradient on the encoder, with the weight that the term has by then."""
    with torch.autocast("cpu", torch.bfloat16):
        losses = module.losses(batch, progress)
        found = gradient_norms(losses.weighted, module.network.encoder_parameters(), lambda mean: mean)
    return {name: float(norm.detach()) for name, norm in found.items()}


class Measure(Callback):
    """Measures at some steps, and stops after the last."""

    def __init__(self, data: SingleSourceDataModule) -> None:
        self.source = batches(data)
        self.found: dict[int, dict[str, float]] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, DualSSLModule)
        step = trainer.global_step
        if step in START or step in LATER:
            self.found[step] = norms(pl_module, next(self.source), pl_module.progress())
        trainer.should_stop = step == LATER[-1]


@pytest.mark.slow
@pytest.mark.no_cover  # hundreds of steps of what other tests run
def test_helpers_pull_and_do_not_rule_at_the_start_and_once_the_organ_is_found(tiny: Tiny, tmp_path: Path) -> None:
    shipped = resolved("phantom_dual_ssl", tiny)
    smaller = resolved("phantom_dual_ssl", tiny, "data.patch_size=[24, 24, 24]")
    torch.set_num_threads(1)
    data = opened(shipped)
    measure = Measure(data)
    trainer = build_trainer(smaller, RunFolder(tmp_path))
    trainer.callbacks.append(measure)  # type: ignore[attr-defined]  # Lightning sets it elsewhere
    trainer.fit(build_module(shipped, data), datamodule=opened(smaller))
    assert set(measure.found) == {*START, *LATER}
    for steps in (START, LATER):
        rows = [measure.found[step] for step in steps]
        for helper in HELPERS:
            assert median(row[helper] / sum(row.values()) for row in rows) >= 0.01, (steps, helper)
            assert median(row[helper] / row["segmentation"] for row in rows) < 1, (steps, helper)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("phantom_quick", ()),
        ("phantom_dual_ssl", ()),
        ("phantom_single_pass", ()),
        ("msd_dual_ssl", ("data.spacing=[1.5, 1.5, 1.5]", "data.patch_size=[32, 32, 32]", "data.batch_size=2")),
    ],
)
def test_no_term_is_silently_nothing(
    name: str, overrides: tuple[str, ...], tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At full weights, from the very first batches on."""
    monkeypatch.setenv("PANSITE_DATA", "/nowhere")
    config = resolved(name, tiny, "trainer.precision=bf16-mixed", *overrides)
    data = opened(config)
    module = build_module(config, data)
    source = batches(data)
    steps = config.trainer.max_steps
    rows = [norms(module, next(source), Progress(steps // 2, steps)) for _ in range(3)]
    for term in ("segmentation", *HELPERS):
        assert median(row[term] / sum(row.values()) for row in rows) >= 0.01, rows


def test_the_shipped_experiments_share_the_weights_that_are_measured(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANSITE_DATA", "/nowhere")
    measured = resolved("phantom_dual_ssl", tiny).model
    for name in ("phantom_quick", "msd_dual_ssl"):
        model = resolved(name, tiny).model
        assert (model.contrastive, model.restoration) == (measured.contrastive, measured.restoration)
