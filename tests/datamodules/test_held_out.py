from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tiny_site import write_site

from datamodules import HeldOutDataModule, SingleSourceDataModule
from datamodules.batch import VolumeBatch
from datamodules.config import DataConfig, SplitConfig
from datamodules.errors import UsageError
from datamodules.split import Split

WINDOW = (0.0, 100.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    folder = tmp_path_factory.mktemp("sites")
    away = write_site(folder, "elsewhere", 3, shape=(30, 20, 22))
    broken = Path(away.root).parent / "1_image.nii.gz"
    broken.write_bytes(b"not a NIfTI file")
    return DataConfig(
        source=write_site(folder, "home", 5),
        held_out={"away": away, "far": write_site(folder, "far", 2)},
        patch_size=(16, 16, 16),
        spacing=(4.0, 4.0, 4.0),
        window=WINDOW,
        store=str(folder / "store"),
        split=SplitConfig(folds=3),
    )


@pytest.fixture(scope="module")
def split(data: DataConfig) -> Split:
    module = SingleSourceDataModule(data.training())
    module.prepare_data()
    module.setup()
    return module.split


def _module(data: DataConfig, split: Split, **options: object) -> HeldOutDataModule:
    module = HeldOutDataModule(data, split, (4.0, 4.0, 4.0), **options)  # type: ignore[arg-type]  # passed through
    module.prepare_data()
    module.setup("test")
    return module


def _names(module: HeldOutDataModule) -> list[tuple[str, str]]:
    return [(batch.site, batch.case) for batch in module.test_dataloader()]


def test_the_sources_test_cases_come_first_under_its_name_then_every_held_out_site(
    data: DataConfig, split: Split
) -> None:
    module = _module(data, split)
    expected = [("home", case) for case in split.test]
    expected += [("away", "c0"), ("away", "c2"), ("far", "c0"), ("far", "c1")]
    assert _names(module) == expected
    assert module.roles == {"home": "source_test", "away": "held_out", "far": "held_out"}
    assert module.site_of("away").name == "away"


def test_a_broken_case_is_named_with_the_reason_and_the_rest_goes_on(data: DataConfig, split: Split) -> None:
    module = _module(data, split)
    assert list(module.excluded["away"]) == ["c1"]
    assert "1_image.nii.gz" in module.excluded["away"]["c1"]
    assert module.excluded["home"] == module.excluded["far"] == {}


def test_volumes_lie_on_the_sources_grid_in_the_sources_window(data: DataConfig, split: Split) -> None:
    module = _module(data, split)
    for case, batch in zip(module.cases, module.test_dataloader(), strict=True):
        assert case.record.spacing == pytest.approx((4.0, 4.0, 4.0))
        assert batch.image.shape == batch.label.shape == (1, 1, *case.record.shape)
        np.testing.assert_allclose(batch.image[0, 0], np.clip(case.image() / 100, 0, 1), atol=1e-6)
        np.testing.assert_array_equal(batch.label[0, 0], case.label())
        assert batch.folder == str(case.folder)


def test_what_is_done_is_left_out(data: DataConfig, split: Split) -> None:
    done = {("away", "c0"), ("home", split.test[0])}
    assert _names(_module(data, split, done=done)) == [
        name for name in _names(_module(data, split)) if name not in done
    ]


class Rank:
    """What a data module asks of a trainer."""

    def __init__(self, rank: int, ranks: int) -> None:
        self.global_rank, self.world_size = rank, ranks


@pytest.mark.parametrize("ranks", [2, 3, 10])
def test_each_case_comes_once_under_any_number_of_ranks(data: DataConfig, split: Split, ranks: int) -> None:
    module = _module(data, split)
    alone, shared = _names(module), []
    for rank in range(ranks):
        module.trainer = Rank(rank, ranks)  # type: ignore[assignment]  # as much of one as is needed
        shared += _names(module)
    assert sorted(shared) == sorted(alone)
    assert len(set(shared)) == len(shared)


def test_more_ranks_than_cases_end_well_under_a_plain_trainer(data: DataConfig, split: Split, tmp_path: Path) -> None:
    class Note(pl.LightningModule):
        def on_test_start(self) -> None:
            self.seen: list[str] = []

        def test_step(self, batch: VolumeBatch, batch_idx: int) -> None:
            self.seen.append(f"{batch.site}/{batch.case}")

        def on_test_epoch_end(self) -> None:
            # A collective, which hangs unless the rank without a case comes here too.
            total = self.trainer.strategy.reduce(torch.tensor(len(self.seen)), reduce_op="sum")
            (tmp_path / f"{self.global_rank}").write_text(f"{self.seen} of {total}")

    names = _names(_module(data, split))
    module = HeldOutDataModule(data, split, (4.0, 4.0, 4.0), done=names[1:])
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.test(Note(), datamodule=module, verbose=False)
    notes = [(tmp_path / rank).read_text() for rank in "01"]
    assert notes == [f"['{names[0][0]}/{names[0][1]}'] of 1", "[] of 1"]


def test_a_test_case_that_is_gone_is_named(data: DataConfig, split: Split) -> None:
    with pytest.raises(UsageError, match=r"home: test case c99 of the run's split"):
        _module(data, Split(split.train, split.validation, ["c99"]))


def test_a_held_out_site_may_not_take_the_sources_name(data: DataConfig, split: Split) -> None:
    twice = DataConfig(source=data.source, held_out={"home": data.source})
    with pytest.raises(UsageError, match=r"data\.held_out\.home has the name of the source"):
        HeldOutDataModule(twice, split, (4.0, 4.0, 4.0))


def test_the_package_is_imported_without_torch() -> None:
    code = "import datamodules, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
