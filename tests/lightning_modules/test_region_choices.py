"""M by every choice: within its candidates, of its fixed share, alike in any batch; and what each choice looks at."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ellipsoid_patches import ellipsoid_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.callbacks import Callback
from restoring import BLIND, FULL, NAMES, build, some
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batch import PatchBatch
from datamodules.errors import UsageError
from lightning_modules import DualSSLModule
from lightning_modules.loading import load_module
from lightning_modules.networks.backbone import Backbone
from lightning_modules.networks.config import NETWORKS, DynUNetConfig
from lightning_modules.regions.candidates import in_band
from lightning_modules.regions.choices.choice import Choice, Sight
from lightning_modules.regions.choices.config import REGIONS, EmaTeacherConfig, McDropoutConfig, ShareConfig
from lightning_modules.regions.choices.ema_teacher import EmaTeacher
from lightning_modules.regions.choices.mc_dropout import channel_factors
from lightning_modules.regions.uncertainty import entropy
from lightning_modules.views import Views

NETWORK: Backbone = NETWORKS.build(DynUNetConfig(filters=(4, 8, 8)), 0).double()


def doubled(batch: PatchBatch) -> PatchBatch:
    """In float64, where a network says the same of a sample in any batch."""
    return batch._replace(image=batch.image.double(), distance=batch.distance.double())


@torch.no_grad()
def sight(batch: PatchBatch, network: Backbone = NETWORK, look: bool = True) -> Sight:
    return Sight(batch, 0.5, network, Views(batch, network(batch.image)) if look else None)


def choice_of(name: str, seed: int = 0, **options: Any) -> Choice:
    choice: Choice = REGIONS.build(REGIONS.config_class(name)(**options), NETWORK, seed)
    return choice.train()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4, deadline=None)
@given(
    reach=st.floats(-3.0, 30.0),
    share=st.floats(0.01, 1.0),
    first=st.integers(0, 50),
    seed=st.integers(0, 5),
    order=st.permutations(range(3)),
)
def test_m_keeps_to_its_candidates_and_its_share_and_is_alike_in_any_batch(
    name: str, reach: float, share: float, first: int, seed: int, order: list[int]
) -> None:
    options = {"share": share} if issubclass(REGIONS.config_class(name), ShareConfig) else {}
    choice = choice_of(name, seed, reach=reach, **options)
    batch = doubled(ellipsoid_batch(3, 8, spacing=6.0, empty=(first + 2,), first=first))
    region = choice(sight(batch, look=name not in BLIND))
    assert region.dtype == torch.bool
    for sample in range(3):
        candidates = batch.distance[sample] <= reach
        assert not (region[sample] & ~candidates).any()
        count = int(candidates.sum())
        assert int(region[sample].sum()) == (max(1, round(options.get("share", 1.0) * count)) if count else 0)
    for places in (order, order[:1]):
        again = choice(sight(some(batch, places), look=name not in BLIND))
        assert torch.equal(again, region[places])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_m_hangs_on_has_a_gradient_or_draws_from_a_common_stream(name: str) -> None:
    batch = ellipsoid_batch(2, 16)
    module = build(name).train()
    assert module.corrupted_pass is not None
    before = torch.get_rng_state()
    views = Views(batch._replace(image=batch.image.requires_grad_()), module.network(batch.image))
    seen = Sight(batch, 0.5, module.network, views)
    assert not module.corrupted_pass.choice.score(seen).requires_grad
    module.losses(batch, FULL)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_band_comes_before_all_else_and_random_does_not_care_for_it() -> None:
    batch = ellipsoid_batch(4, 16)
    band = in_band(batch.distance)
    candidates = batch.distance <= 15
    share = float(band.sum() / candidates.sum())
    seen = sight(batch, look=False)
    assert not (choice_of("band", share=share / 2)(seen) & ~band).any()
    # Of a larger share than the band, all of it is taken, and the rest beyond.
    assert not (band & ~choice_of("band", share=2 * share)(seen)).any()
    drawn = choice_of("random")(seen)
    assert abs(float((drawn & band).sum() / drawn.sum()) - share) < 0.03
    assert torch.equal(choice_of("whole")(seen), candidates)


def test_a_random_m_is_another_one_in_every_epoch() -> None:
    batch = ellipsoid_batch(2, 16)
    later = batch._replace(key=batch.key + torch.tensor([1, 0]))
    overlap = [choice_of("random")(sight(b, look=False)) for b in (batch, later)]
    both = (overlap[0] & overlap[1]).sum() / overlap[0].sum()
    assert 0.1 < both < 0.3


def test_entropy_asks_the_prediction_alone() -> None:
    batch = doubled(ellipsoid_batch(2, 16))
    seen = sight(batch)
    region = choice_of("entropy")(seen)
    for sample in range(2):
        u, m, candidates = seen.clean.uncertainty[sample], region[sample], batch.distance[sample] <= 15
        assert u[m].min() >= u[candidates & ~m].max()
    assert not torch.equal(region, choice_of("entropy+band")(seen))


def test_mc_dropout_scores_the_entropy_of_the_mean_prediction() -> None:
    batch = doubled(ellipsoid_batch(2, 16))
    seen = sight(batch)
    config = McDropoutConfig(samples=3, rate=0.4)
    choice: Choice = REGIONS.build(config, NETWORK, 7)
    encoder = seen.clean.clean.encoder
    factors = channel_factors({s: f.shape[1] for s, f in encoder.items()}, 3, 0.4, batch.key, seed=7)
    with torch.no_grad():
        p = torch.stack(
            [NETWORK.decode({s: f * factors[s][t] for s, f in encoder.items()}).logits.sigmoid() for t in range(3)]
        ).mean(0)
    expected = (torch.special.entr(p) + torch.special.entr(1 - p)) / torch.log(torch.tensor(2.0))
    torch.testing.assert_close(choice.score(seen), expected)
    assert not torch.allclose(choice.score(seen), seen.clean.uncertainty, atol=1e-3)


def test_channels_are_dropped_whole_at_their_rate_and_the_mean_is_kept() -> None:
    key = torch.tensor([[0, 3], [1, 3], [0, 4]])
    factors = channel_factors({1: 500, 2: 700}, 4, 0.25, key, seed=0)
    assert factors[1].shape == (4, 3, 500, 1, 1, 1)
    for values in factors.values():
        assert {round(v, 6) for v in values.unique().tolist()} == {0.0, round(1 / 0.75, 6)}
        assert abs(float(values.mean()) - 1) < 0.03
    drawn = factors[2][:, :, :, 0, 0, 0].flatten(0, 1)
    assert len(drawn.unique(dim=0)) == 12
    alone = channel_factors({1: 500, 2: 700}, 4, 0.25, key[2:], seed=0)
    assert all(torch.equal(alone[stride][:, 0], factors[stride][:, 2]) for stride in factors)


def test_the_teacher_is_asked_and_not_the_network() -> None:
    batch = doubled(ellipsoid_batch(2, 16))
    choice = choice_of("ema_teacher")
    assert isinstance(choice, EmaTeacher)
    with torch.no_grad():
        for parameter in choice.teacher.parameters():
            parameter.mul_(0.5)
        expected = entropy(choice.teacher(batch.image).logits)
    torch.testing.assert_close(choice.score(sight(batch)), expected)
    assert not torch.allclose(expected, sight(batch).clean.uncertainty, atol=1e-3)


class Steps(Callback):
    """Keeps the network's weights after every optimiser step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._keep(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step == len(self.weights):
            self._keep(pl_module)

    def _keep(self, module: pl.LightningModule) -> None:
        assert isinstance(module, DualSSLModule)
        self.weights.append(copy.deepcopy(module.network.state_dict()))


def fit(module: DualSSLModule, folder: Path, steps: int, accumulate: int = 1) -> tuple[pl.Trainer, Steps]:
    seen = Steps()
    trainer = pl.Trainer(
        default_root_dir=folder, max_steps=steps, accelerator="cpu", accumulate_grad_batches=accumulate,
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        callbacks=[seen],
    )  # fmt: skip
    batches = [ellipsoid_batch(2, 16, first=2 * i) for i in range(steps * accumulate)]
    trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))  # type: ignore[arg-type]  # a list will do
    return trainer, seen


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_teacher_follows_once_a_step_by_the_formula_of_the_average(tmp_path: Path, accumulate: int) -> None:
    module = build("ema_teacher")
    teacher = teacher_of(module)
    with torch.no_grad():
        # As by model.init: the teacher starts from what training starts from.
        for parameter in module.network.parameters():
            parameter.mul_(1.5)
    trainer, seen = fit(module, tmp_path, steps=4, accumulate=accumulate)
    assert len(seen.weights) == 5
    for name, value in teacher.state_dict().items():
        expected = seen.weights[0][name].double()
        for weights in seen.weights[1:]:
            expected = 0.99 * expected + 0.01 * weights[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(seen.weights[0]["encoder.stages.0.conv1.conv.weight"], next(iter(teacher.parameters())))
    known = {id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    assert known
    assert not known & {id(p) for p in teacher.parameters()}


def teacher_of(module: DualSSLModule) -> Backbone:
    assert module.corrupted_pass is not None
    choice = module.corrupted_pass.choice
    assert isinstance(choice, EmaTeacher)
    return choice.teacher


def test_the_teacher_is_in_the_state_takes_no_gradient_and_is_not_there_to_predict(tmp_path: Path) -> None:
    module = build("ema_teacher")
    trainer, _ = fit(module, tmp_path, steps=1)
    assert any(".teacher." in name for name in module.state_dict())
    assert not any(p.requires_grad for p in teacher_of(module).parameters())
    assert not teacher_of(module).training
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load_module(tmp_path / "last.ckpt")
    assert not any(".teacher." in name for name in loaded.state_dict())
    image = ellipsoid_batch(1, 16).image
    assert torch.equal(loaded(image), module.eval()(image))


def test_a_teacher_that_forgets_at_once_is_the_network() -> None:
    choice: Choice = REGIONS.build(EmaTeacherConfig(decay=0.0), NETWORK, 0)
    assert isinstance(choice, EmaTeacher)
    other = copy.deepcopy(NETWORK)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    choice.follow(other)
    for own, wanted in zip(choice.teacher.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own, wanted)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_of_nothing_or_of_more_than_all_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"model\.restoration\.region\.share"):
        choice_of("random", share=share)
