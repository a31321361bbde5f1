"""What is well typed and still can't work is refused before any data is read."""

# ruff: noqa: E501 - a sentence and the mistake that it answers stand on one line
from __future__ import annotations

from functools import reduce
from pathlib import Path

import pytest

from datamodules.errors import ConfigurationErrors
from experiments.configuration import load_experiment
from experiments.configuration.ranges import RANGES
from experiments.configuration.schema import every_key

BASE = (
    "name: a\ndata: {patch_size: [32, 32, 32], source: {layout: msd, root: /s},"
    " held_out: {x: {layout: manifest, root: /x.csv}}}\n"
)


def faults(folder: Path, *overrides: str, text: str = BASE) -> list[str]:
    path = folder / "a.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_experiment(path, overrides)
    except ConfigurationErrors as error:
        return list(error.faults)
    return []


OUT_OF_RANGE = {
    "seed": "-1",
    "data.patch_size": "[0, 32, 32]",
    "data.batch_size": "0",
    "data.spacing": "[1, 1, 0]",
    "data.workers": "-1",
    "data.split.folds": "2",
    "data.split.fold": "-1",
    "data.sampling.foreground": "0.5",
    "data.source.labels": "[0]",
    "data.held_out.x.labels": "[-1]",
    "model.network.filters": "[8, 0, 8]",
    "model.network.init_filters": "0",
    "model.network.blocks_down": "[1, 0, 1]",
    "model.network.blocks_up": "[1, 0]",
    "model.network.feature_size": "0",
    "model.network.depths": "[0, 1, 1, 1]",
    "model.network.num_heads": "[0, 1, 1, 1]",
    "model.network.window_size": "0",
    "model.network.kernel_size": "0",
    "model.segmentation.weight": "-0.5",
    "model.contrastive.weight": "-0.1",
    "model.contrastive.temperature": "0",
    "model.contrastive.stride": "0",
    "model.contrastive.dimension": "0",
    "model.contrastive.slots": "[1, -1, 1, 1]",
    "model.contrastive.cohesion": "-1",
    "model.contrastive.separation": "-0.1",
    "model.contrastive.ramp": "1.1",
    "model.contrastive.fade": "1.1",
    "model.restoration.weight": "-1",
    "model.restoration.channels": "0",
    "model.restoration.beta": "0",
    "model.restoration.rest": "-1",
    "model.restoration.ssim": "-1",
    "model.restoration.ramp": "-0.1",
    "model.restoration.fade": "1.1",
    "model.restoration.region.band": "[1, -1]",
    "model.restoration.region.reach": "0",
    "model.restoration.region.share": "0",
    "model.restoration.region.samples": "0",
    "model.restoration.region.rate": "1",
    "model.restoration.region.decay": "1",
    "model.restoration.corruption.cells": "[6, 0]",
    "model.restoration.corruption.eligible": "2",
    "model.restoration.corruption.probability": "-1",
    "model.restoration.corruption.decoys": "1.5",
    "model.restoration.corruption.alike": "-0.1",
    "model.restoration.corruption.ramp": "1.1",
    "model.restoration.cross_entropy": "-1",
    "model.restoration.corruption.operators.blur": "-1",
    "model.consistency.weight": "-1",
    "model.consistency.ramp": "2",
    "model.skeleton.weight": "-1",
    "model.skeleton.stride": "0",
    "model.skeleton.temperature": "0",
    "model.skeleton.dimension": "0",
    "model.skeleton.slots": "[0, 1]",
    "model.skeleton.ramp": "-1",
    "model.features.strides": "[0]",
    "model.features.probability": "1.5",
    "model.features.alpha": "0",
    "model.features.factor": "-1",
    "model.optimizer.lr": "0",
    "model.optimizer.weight_decay": "-1",
    "model.optimizer.betas": "[0.9, 1]",
    "model.optimizer.momentum": "1",
    "model.schedule.warmup": "1.5",
    "model.schedule.power": "0",
    "model.schedule.floor": "2",
    "trainer.max_steps": "0",
    "trainer.devices": "0",
    "trainer.nodes": "0",
    "trainer.accumulate": "0",
    "trainer.gradient_clip": "-1",
    "trainer.ema": "1",
    "trainer.validate_every": "0",
    "trainer.checkpoint_every": "0",
    "trainer.log_every": "0",
    "evaluation.overlap": "1",
    "evaluation.smallest_piece": "1.5",
    "evaluation.tolerance": "0",
    "evaluation.prediction_labels": "[0]",
    "trainer.nonfinite_limit": "0",
    "trainer.timeout": "0",
    "trainer.checkpoint_minutes": "0",
    "logging.panel_every": "-1",
    "cluster.profiles.x.gpus": "-1",
    "cluster.profiles.x.cpus": "0",
    "cluster.profiles.x.signal": "0",
}


@pytest.mark.parametrize(("key", "value"), OUT_OF_RANGE.items())
def test_every_number_has_its_range(tmp_path: Path, key: str, value: str) -> None:
    component = {
        "momentum": "model.optimizer.name=sgd",
        "floor": "model.schedule.name=cosine",
        **dict.fromkeys(("init_filters", "blocks_down", "blocks_up"), "model.network.name=segresnet"),
        **dict.fromkeys(("feature_size", "depths", "num_heads", "window_size"), "model.network.name=swin_unetr"),
        "kernel_size": "model.network.name=mednext",
        **dict.fromkeys(("samples", "rate"), "model.restoration.region.name=mc_dropout"),
        "decay": "model.restoration.region.name=ema_teacher",
        **dict.fromkeys(("strides", "alpha"), "model.features.name=mixstyle"),
        "factor": "model.features.name=dsu",
    }.get(key.rpartition(".")[2])
    component = "model.features.name=mixstyle" if key == "model.features.probability" else component
    override = f"{key}={value}"
    found = faults(tmp_path, *([component] if component else []), override)
    assert any(fault.startswith(f"override '{override}': {key}: must be ") for fault in found), found


def test_the_table_of_ranges_is_tried_whole_and_names_real_keys() -> None:
    tables = {"held_out.x": "held_out.*", "profiles.x": "profiles.*", "operators.blur": "operators"}
    general = {reduce(lambda k, own: k.replace(own, tables[own]), tables, key) for key in OUT_OF_RANGE}
    assert general == set(RANGES)
    assert set(RANGES) <= {key.path for key in every_key()}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["name=a/b"], "name: becomes a folder, so use letters, digits, '_', '-' and '.', not 'a/b'."),
        (["name=.."], "name: becomes a folder"),
        (["data.source.name=a b"], "data.source.name: use letters"),
        (["data.held_out.x.name=y"], "data.held_out.x.name: a held-out site is called by its key, 'x'; leave 'name' out."),
        (["data.held_out={'a b': {'layout': 'msd'}}"], "data.held_out.a b: a site's name has letters"),
        (["data.held_out.msd.layout=manifest"], "data.held_out.msd: is called like the source; give one of them another name."),
        (["data.held_out.y={layout: msd, root: /s}"], "data.held_out.y.root: reads what the source reads (msd at /s), so it is not held out."),
        (["data.held_out.y={layout: msd, root: /a/../s/}"], "data.held_out.y.root: reads what the source reads"),
        (["data.source={layout: phantom, site: north}", "data.held_out={n: {layout: phantom, site: north, cases: 2}}"], "data.held_out.n.root: reads what the source reads (phantom), so it is not held out."),
        (["data.source.labels=[]"], "data.source.labels: is empty; list the label ids that make up the pancreas."),
        (["data.held_out.x.labels=[]"], "data.held_out.x.labels: is empty"),
        (["data.batch_size=8", "trainer.devices=3", "trainer.accumulate=2"], "data.batch_size: the global batch of 8 can't be shared out evenly among 3 devices × 1 nodes × 2 accumulated batches = 6; nearest: 6 or 12."),
        (["trainer.nodes=4"], "data.batch_size: the global batch of 2 can't be shared out evenly among 1 devices × 4 nodes × 1 accumulated batches = 4; nearest: 4."),
        (["data.split.fold=5"], "data.split.fold: must be below the 5 folds: 0 to 4, not 5."),
        (["data.window=[240, -100]"], "data.window: must rise from the HU that becomes 0 to that which becomes 1, not [240, -100]."),
        (["data.patch_size=[30, 32, 55]"], "data.patch_size: each edge must be a multiple of 16, the total stride of dynunet, not [30, 32, 55]; nearest: [32, 32, 48]."),
        (["data.patch_size=[16, 16, 16]"], "data.patch_size: [16, 16, 16] leaves a single cell at the network's total stride of 16"),
        (["model.contrastive.stride=16"], "model.contrastive.stride: dynunet has decoder features at stride 1, 2, 4 and 8, not at 16."),
        (["model.contrastive.stride=3"], "model.contrastive.stride: dynunet has decoder features at"),
        (["model.contrastive.stride=8", "data.spacing=[3, 3, 3]"], "model.contrastive.stride: 8 at a spacing of [3.0, 3.0, 3.0] mm makes cells of 24 mm and puts the end of the mid ring at 96 mm, beyond the 90 mm to which distances are known; take a smaller stride or a finer spacing."),
        (["data.structure.axis=none"], "model.contrastive.structure: 'both' cuts the pancreas into thirds of an axis that data.structure.axis=none leaves unknown; set model.contrastive.structure=shells."),
        (["data.structure.axis=none", "model.contrastive.structure=axis"], "model.contrastive.structure: 'axis' cuts the pancreas into thirds"),
        (["model.contrastive.form=cohesion_separation", "model.contrastive.cohesion=0", "model.contrastive.separation=0"], "model.contrastive.cohesion: it and model.contrastive.separation are both 0, so nothing is contrasted; model.contrastive.weight=0 switches the term off."),
        (["model.contrastive.separation=0"], "model.contrastive.separation: has no effect on the form 'asymmetric'; set model.contrastive.form=cohesion_separation or leave it out."),
        (["model.restoration.corruption.operators.blurr=1"], "model.restoration.corruption.operators.blurr: there is no operator 'blurr'; did you mean 'blur'?"),
        (["model.restoration.corruption.operators={shuffle: 0, remap: 0, blur: 0, noise: 0, inpaint: 0, swap: 0, random_conv: 0}"], "model.restoration.corruption.operators: every operator has weight 0, so nothing can be corrupted."),
        (["model.restoration.corruption.cells=[]"], "model.restoration.corruption.cells: is empty; list edge lengths in mm."),
        (["model.restoration.passes=one"], "model.restoration.region.name: entropy+band needs a prediction before anything is corrupted, and model.restoration.passes=one has none; choose one of band, random, whole, or set model.restoration.passes=two."),
        (["model.restoration.passes=one", "model.restoration.region=ema_teacher"], "model.restoration.region.name: ema_teacher needs a prediction"),
        (["model.restoration.passes=one", "model.restoration.region=band", "model.contrastive.views=clean"], "model.contrastive.views: clean needs a pass of clean images alone"),
        (["model.restoration.decoder=shared", "model.restoration.skip=true"], "model.restoration.skip: is of the thin decoder"),
        (["model.restoration.ssim=0.1", "data.patch_size=[32, 32, 8]", "model.network.filters=[4, 8, 16]"], "model.restoration.ssim: compares windows of 11 voxels, for which data.patch_size=[32, 32, 8] has no room"),
        (["model.restoration.region=whole", "model.restoration.region.share=0.5"], "model.restoration.region.share: the region 'whole' has no key 'share'"),
        (["trainer.precision=16-mixed", "trainer.accelerator=cpu"], "trainer.precision: 16-mixed needs a GPU; on a CPU take bf16-mixed or 32."),
    ],
)  # fmt: skip
def test_keys_that_do_not_go_together(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    (fault,) = faults(tmp_path, *overrides)
    assert sentence in fault
    assert fault.startswith("override '")


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.sampling.foreground=0.667"],
        ["data.batch_size=8", "trainer.devices=4", "trainer.accumulate=2"],
        # What counts is the cell's volume, as where the regions are made: thick slices alone put no ring too far.
        ["model.contrastive.stride=8", "data.spacing=[0.8, 0.8, 6]"],
        # A term that is not built has no features to be missing.
        ["model.contrastive.weight=0", "model.contrastive.stride=64"],
        [
            "model.contrastive.weight=0",
            "data.structure.axis=none",
            "model.contrastive.cohesion=0",
            "model.contrastive.separation=0",
        ],
        ["data.structure.axis=none", "model.contrastive.structure=shells"],
        ["data.structure.axis=none", "model.contrastive.structure=none"],
        ["model.contrastive.form=cohesion_separation", "model.contrastive.cohesion=0"],
        ["model.restoration.weight=0", "model.contrastive.views=clean", "model.restoration.corruption.cells=[]"],
        ["trainer.precision=16-mixed"],
        ["data.patch_size=[16, 16, 32]"],
        ["trainer.gradient_clip=0", "trainer.ema=null", "data.workers=0"],
        ["data.held_out={}"],
    ],
)
def test_what_can_work_is_let_through(tmp_path: Path, overrides: list[str]) -> None:
    assert faults(tmp_path, *overrides) == []


def test_a_default_that_clashes_is_told_at_the_key_that_was_set(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, text="name: a\ntrainer:\n  devices: 3\n")
    assert fault.startswith(f"{tmp_path}/a.yaml:3: data.batch_size: the global batch of 2")
