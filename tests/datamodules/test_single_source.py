from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny_site import SPACING, write_site
from torch import nn

from datamodules import SingleSourceDataModule
from datamodules.augmentation.config import AUGMENTATIONS, NoneConfig
from datamodules.batch import PatchBatch, VolumeBatch
from datamodules.config import DataConfig, SourceData, SplitConfig
from datamodules.errors import UsageError
from datamodules.patches import RawPatchBatch

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval"),
]

CASES, STEPS, PATCH = 9, 6, (16, 16, 16)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SourceData:
    folder = tmp_path_factory.mktemp("source")
    return SourceData(
        source=write_site(folder, "home", CASES),
        patch_size=PATCH,
        batch_size=4,
        store=str(folder / "store"),
        split=SplitConfig(folds=3),
    )


class Tiny(pl.LightningModule):
    """A convolution with momentum, that notes what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 1, 3, padding=1)
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                parameter.copy_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter) + number)
        self.seen: list[tuple[int, int]] = []
        self.validated: list[str] = []

    def training_step(self, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
        self.seen += [(epoch, index) for epoch, index in batch.key.tolist()]
        return nn.functional.binary_cross_entropy_with_logits(self.layer(batch.image), batch.label)

    def validation_step(self, batch: VolumeBatch, batch_idx: int) -> None:
        self.validated.append(batch.case)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Killed(Exception):
    """The machine went away."""


class KillAfter(pl.Callback):
    """Save a checkpoint in a hook after so many batches, and die one batch later."""

    def __init__(self, hook: str, batches: int, path: Path) -> None:
        self.batches, self.path = batches, path
        setattr(self, hook, self._save)

    def _save(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.current.processed == self.batches:
            trainer.save_checkpoint(self.path)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.current.processed == self.batches + 1:
            raise Killed


def _fit(
    data: SourceData, accumulate: int = 1, checkpoint: Path | None = None, callback: pl.Callback | None = None
) -> Tiny:
    module = Tiny()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        accumulate_grad_batches=accumulate,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback] if callback else [],
    )
    try:
        trainer.fit(
            module, datamodule=SingleSourceDataModule(data, seed=5, accumulate=accumulate), ckpt_path=checkpoint
        )
    except Killed:
        assert callback is not None
    else:
        assert trainer.global_step == STEPS
    return module


def _same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize(
    ("workers", "accumulate", "hook", "batches"),
    [
        (0, 1, "on_train_batch_end", 3),
        (0, 2, "on_train_batch_end", 6),
        (2, 2, "on_validation_end", 4),
        (2, 1, "on_validation_end", 4),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(
    data: SourceData, tmp_path: Path, workers: int, accumulate: int, hook: str, batches: int
) -> None:
    data = replace(data, workers=workers)
    whole = _fit(data, accumulate)
    path = tmp_path / "mid.ckpt"
    first = _fit(data, accumulate, callback=KillAfter(hook, batches, path))
    rest = _fit(data, accumulate, checkpoint=path)
    samples = batches * data.batch_size // accumulate
    assert first.seen[:samples] + rest.seen == whole.seen
    assert len(whole.seen) == STEPS * data.batch_size
    assert _same_weights(rest, whole)
    assert not _same_weights(first, whole)


def test_workers_and_accumulation_change_neither_the_samples_nor_what_is_drawn_for_them(data: SourceData) -> None:
    plain = _fit(data)
    assert plain.seen == _fit(data, accumulate=2).seen
    many = _fit(replace(data, workers=2))
    assert plain.seen == many.seen
    assert _same_weights(plain, many)


@pytest.mark.filterwarnings("ignore:.*smaller than the patch")
@pytest.mark.parametrize("name", sorted(AUGMENTATIONS.names()))
def test_the_bits_of_a_batch_depend_neither_on_the_threads_nor_on_the_process_that_augments(
    data: SourceData, name: str
) -> None:
    # As many voxels as torch shares out among threads, every transform drawn.
    config = AUGMENTATIONS.config_class(name)()
    always = {key: 1.0 for key in ("spatial", "intensity") if hasattr(config, key)}
    large = replace(data, patch_size=(48, 48, 48), augmentation=replace(config, **always))
    expected = _first_batch(large, workers=2)
    threads = torch.get_num_threads()
    for given in (1, 2):
        torch.set_num_threads(given)
        try:
            batch = _first_batch(large, workers=0)
            assert torch.get_num_threads() == given
        finally:
            torch.set_num_threads(threads)
        for ours, theirs in zip(batch, expected, strict=True):
            assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


def test_patches_for_a_gpu_are_augmented_there_and_not_by_the_loader(
    data: SourceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SingleSourceDataModule(data, seed=5)
    module.setup("fit")
    expected = next(iter(module.train_dataloader()))
    module.trainer = pl.Trainer(accelerator="cpu", max_steps=STEPS, logger=False, enable_checkpointing=False)
    monkeypatch.setattr(type(module.trainer.strategy), "root_device", torch.device("cuda", 0))
    loader = module.train_dataloader()
    assert loader.pin_memory
    loader.pin_memory = False  # there is no GPU to pin for
    raw = next(iter(loader))
    assert isinstance(raw, RawPatchBatch)
    assert not raw.image[0].is_floating_point()
    module.trainer.fit_loop.epoch_loop.batch_progress.current.ready = 0
    batch = module.on_after_batch_transfer(raw, 0)
    assert torch.equal(batch.image, expected.image)


def _first_batch(data: SourceData, workers: int) -> PatchBatch:
    module = SingleSourceDataModule(replace(data, workers=workers), seed=5)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, PatchBatch)
    return batch


def test_two_ranks_see_one_ranks_global_batches_and_every_validation_case_once(
    data: SourceData, tmp_path: Path
) -> None:
    # A plain Trainer: Lightning's own distributed sampler is left on, and must leave ours alone.
    class Note(Tiny):
        def on_train_end(self) -> None:
            note = {
                "seen": self.seen,
                "validated": self.validated,
                "weights": self.layer.weight.flatten().tolist(),
            }
            (tmp_path / f"{self.global_rank}.json").write_text(json.dumps(note))

    def fit(devices: int) -> list[dict[str, Any]]:
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=devices,
            strategy="ddp_fork" if devices > 1 else "auto",
            max_steps=STEPS,
            val_check_interval=STEPS,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Note(), datamodule=SingleSourceDataModule(data, seed=5))
        return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(devices)]

    (one,), two = fit(1), fit(2)
    batches = [[note["seen"][step * 2 : step * 2 + 2] for note in two] for step in range(STEPS)]
    assert [sample for first, second in batches for sample in first + second] == one["seen"]
    assert len(one["validated"]) % 2 == 1
    assert sorted(two[0]["validated"] + two[1]["validated"]) == sorted(one["validated"])
    torch.testing.assert_close(*(torch.tensor(notes["weights"]) for notes in (two[0], one)), atol=1e-6, rtol=1e-5)


def test_the_data_module_alone_shows_the_data(data: SourceData) -> None:
    module = SingleSourceDataModule(data)
    module.prepare_data()
    module.setup("fit")
    assert module.spacing == pytest.approx(SPACING)
    parts = [module.split.train, module.split.validation, module.split.test]
    assert sorted(case for part in parts for case in part) == [f"c{number}" for number in range(CASES)]
    assert [case.record.case for case in module.cases] == module.split.train
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, PatchBatch)
    assert module.on_after_batch_transfer(batch, 0) is batch
    assert batch.image.shape == (4, 1, *PATCH)
    assert batch.label.any()
    volumes = list(module.val_dataloader())
    assert [volume.case for volume in volumes] == module.split.validation
    assert module.on_after_batch_transfer(volumes[0], 0) is volumes[0]
    assert volumes[0].image.shape == volumes[0].label.shape
    assert 0 <= volumes[0].image.min() < volumes[0].image.max() <= 1


def test_loading_leaves_the_global_random_state_alone(data: SourceData) -> None:
    module = SingleSourceDataModule(data)
    module.setup("fit")
    before = torch.random.get_rng_state()
    next(iter(module.train_dataloader()))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_rank_sets_up_without_preparing(data: SourceData, monkeypatch: pytest.MonkeyPatch) -> None:
    SingleSourceDataModule(data).prepare_data()

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a case was read anew")

    monkeypatch.setattr("datamodules.prepare_case.read_case", forbidden)
    module = SingleSourceDataModule(data)
    module.setup("fit")
    assert len(module.preparation.kept) == CASES


def test_a_patch_larger_than_a_volume_is_padded_and_said(data: SourceData) -> None:
    module = SingleSourceDataModule(replace(data, patch_size=(16, 48, 16), augmentation=NoneConfig()))
    with pytest.warns(UserWarning, match=r"home: 3 of 3 training volumes are smaller than the patch of 16×48×16"):
        module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, PatchBatch)
    air = batch.image == 0
    assert air.all(dim=(2, 4)).any()
    assert ((batch.distance == 100) & air & (batch.axis == -1)).any()


def test_a_configuration_that_names_held_out_sites_is_refused(data: SourceData) -> None:
    whole = DataConfig(**vars(data), held_out={"away": data.source})
    with pytest.raises(UsageError, match="takes no held-out sites"):
        SingleSourceDataModule(whole)
    assert not hasattr(SingleSourceDataModule(whole.training()).data, "held_out")


def _attached(data: SourceData, accumulate: int = 1, **trainer: Any) -> Callable[[], Any]:
    module = SingleSourceDataModule(data, accumulate=accumulate)
    module.setup("fit")
    module.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **trainer)
    return module.train_dataloader


@pytest.mark.parametrize(
    ("accumulate", "trainer", "message"),
    [
        (1, {"max_epochs": 3}, "give the Trainer max_steps"),
        (2, {"max_steps": 3}, "the Trainer accumulates 1 batches and the data module 2"),
        (3, {"max_steps": 3, "accumulate_grad_batches": 3}, "4 is not divisible by 1 ranks × 3 accumulated"),
    ],
)
def test_a_trainer_that_does_not_fit_the_run_is_refused(
    data: SourceData, accumulate: int, trainer: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _attached(data, accumulate, **trainer)()


def test_a_loader_made_before_the_progress_was_restored_is_found_out(data: SourceData, tmp_path: Path) -> None:
    class Hasty(Tiny):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            self.trainer.fit_loop.setup_data()  # as trainer.estimated_stepping_batches may do
            return super().configure_optimizers()

    path = tmp_path / "mid.ckpt"
    _fit(data, callback=KillAfter("on_train_batch_end", 3, path))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(AssertionError, match="batch 3 of the run should begin with sample"):
        trainer.fit(Hasty(), datamodule=SingleSourceDataModule(data, seed=5), ckpt_path=path)
