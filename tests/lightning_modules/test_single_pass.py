"""One pass of a half-corrupted batch: who is corrupted, what each term makes of it, and that ranks don't matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ellipsoid_patches import ellipsoid_batch, part
from rank_report import Report
from restoring import FULL, build, some
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_modules.losses.restoration import restoration_loss
from lightning_modules.losses.segmentation import segmentation_loss

STEPS = 3
BATCH = 4


def test_every_second_sample_of_the_stream_is_corrupted_and_the_others_are_not() -> None:
    batch = ellipsoid_batch(6, 16, first=3)
    module = build("whole", passes="one")
    views = module.views(batch, FULL)
    assert views.corrupted is not None
    assert views.corrupted.samples == [0, 2, 4]
    assert views.corrupted.mask.flatten(1).any(1).tolist() == [True, False] * 3
    assert torch.equal(views.corrupted.image[1::2], batch.image[1::2])
    assert not views.corrupted.region[1::2].any()
    # A case that stands at the same place in the next epoch has its turn then.
    later = module.views(batch._replace(key=batch.key + torch.tensor([1, 0])), FULL)
    assert later.corrupted is not None
    assert later.corrupted.samples == [1, 3, 5]


def test_the_network_runs_once_and_the_thin_decoder_for_the_corrupted_alone() -> None:
    module = build("band", passes="one")
    seen: dict[str, list[int]] = {"encoder": [], "decoder": [], "restored": []}

    def note(name: str, part: nn.Module) -> None:
        part.register_forward_hook(lambda _, inputs, output: seen[name].append(len(next(iter(_values(inputs[0]))))))

    note("encoder", module.network.encoder)
    note("decoder", module.network.decoder)
    note("restored", module.terms["restoration"].decoder)
    module.losses(ellipsoid_batch(4, 16), FULL)
    assert seen == {"encoder": [4], "decoder": [4], "restored": [2]}


def _values(given: Any) -> Any:
    return given.values() if isinstance(given, dict) else [given]


def test_corrupted_samples_are_segmented_by_cross_entropy_alone_where_that_has_a_weight() -> None:
    batch = ellipsoid_batch(4, 16)
    module = build("band", passes="one", cross_entropy=4.0)
    views = module.views(batch, FULL)
    logits = views.clean.logits.double()
    clean = [segmentation_loss(logits[s : s + 1], batch.label[s : s + 1]) for s in (0, 2)]
    entropy = [F.binary_cross_entropy_with_logits(logits[s], batch.label[s].double()) for s in (1, 3)]
    found = module.terms["segmentation"](views).loss
    torch.testing.assert_close(found.double(), (sum(clean) + 4 * sum(entropy)) / 4)


@pytest.mark.parametrize("decoder", ["thin", "shared"])
@pytest.mark.parametrize("segment_corrupted", [True, False])
def test_each_term_is_the_mean_over_the_batch_of_what_its_samples_say(decoder: str, segment_corrupted: bool) -> None:
    batch = ellipsoid_batch(4, 16)
    module = build("band", passes="one", decoder=decoder, segment_corrupted=segment_corrupted)
    views = module.views(batch, FULL)
    assert views.corrupted is not None
    found = {name: term(views).loss for name, term in module.terms.items()}
    logits = module.network(views.corrupted.image).logits
    each = [segmentation_loss(logits[s : s + 1], batch.label[s : s + 1]) for s in range(4)]
    counted = range(4) if segment_corrupted else (0, 2)
    torch.testing.assert_close(found["segmentation"], torch.stack([each[s] for s in counted]).sum() / 4)
    restored = module.terms["restoration"].restore(views)
    errors = restoration_loss(restored, batch.image, views.corrupted.mask, 0.05, 0.1)
    torch.testing.assert_close(found["restoration"], (errors[1] + errors[3]) / 4)
    alone = [module.losses(part(batch, sample), FULL).results for sample in range(4)]
    for name in ("segmentation", "restoration"):
        torch.testing.assert_close(found[name], torch.stack([results[name].loss for results in alone]).mean())


def test_a_batch_of_clean_samples_restores_nothing_and_leaves_no_weight_without_a_gradient() -> None:
    batch = some(ellipsoid_batch(4, 16), [0, 2])
    for decoder in ("thin", "shared"):
        module = build("band", passes="one", decoder=decoder)
        losses = module.losses(batch, FULL)
        assert losses.results["restoration"].loss == 0
        losses.total.backward()
        assert all(p.grad is not None for p in module.parameters())


def test_the_contrast_sees_the_one_pass_and_weighs_by_its_uncertainty() -> None:
    module = build("band", passes="one")
    batch = ellipsoid_batch(2, 16)
    views = module.views(batch, FULL)
    assert views.corrupted is not None
    assert views.corrupted.decoded is None
    stride = module.config.contrastive.stride
    term = module.terms["contrastive"].term
    expected = term([views.clean.decoder[stride]], batch, views.uncertainty).loss
    torch.testing.assert_close(module.losses(batch, FULL).results["contrastive"].loss, expected)


class Joined(pl.LightningDataModule):
    """Global batches of four, two to a rank; in the first step one rank has all the corrupted samples."""

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        local = BATCH // self.trainer.world_size
        own = slice(self.trainer.global_rank * local, (self.trainer.global_rank + 1) * local)
        batches = []
        for step in range(STEPS):
            order = [0, 2, 1, 3] if step == 0 else [0, 1, 2, 3]
            whole = ellipsoid_batch(BATCH, 16, empty=(5,), first=step * BATCH)
            batches.append(some(whole, order[own]))
        return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]  # a list


def train(folder: Path, ranks: int, options: dict[str, Any]) -> None:
    trainer = pl.Trainer(
        default_root_dir=folder, accelerator="cpu", devices=ranks, strategy="ddp_fork" if ranks > 1 else "auto",
        use_distributed_sampler=False, max_steps=STEPS, log_every_n_steps=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[Report(folder)],
    )  # fmt: skip
    trainer.fit(build(**options), Joined())


@pytest.mark.parametrize(
    "options",
    [
        {"region": "band", "passes": "one"},
        {"region": "random", "passes": "one", "segment_corrupted": False, "decoder": "shared", "ssim": 0.1},
        {"region": "ema_teacher"},
        {"region": "mc_dropout"},
    ],
    ids=lambda options: ", ".join(map(str, options.values())),
)
def test_two_ranks_are_one_process_with_the_joined_batches(tmp_path: Path, options: dict[str, Any]) -> None:
    for ranks in (1, 2):
        train(tmp_path, ranks, options)
    alone, first, second = (
        json.loads((tmp_path / f"{name}.json").read_text())["rows"] for name in ("1-0", "2-0", "2-1")
    )
    assert first == second
    assert len(first) == STEPS
    for found, expected in zip(first, alone, strict=True):
        losses = {name: value for name, value in expected.items() if name.startswith(("loss/", "region/"))}
        assert losses["loss/restoration"] > 0
        assert {name: found[name] for name in losses} == pytest.approx(losses, rel=2e-3, abs=1e-6)
    weights = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")]
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], weights[2][name])
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-3)
