"""Rivals through the real command: what dies goes on with the same bits, and the method trains on GIN's images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Tiny
from tests.test_method_variants import die_at, only, state

Command = Callable[..., tuple[int, str, str]]

SEGMENTATION_ALONE = ("model.contrastive.weight=0", "model.restoration.weight=0", "data.batch_size=4")
RIVALS = {
    "gin, consistency and mixstyle": (
        "data.augmentation={name: gin, views: 2}",
        "model.consistency.weight=10",
        "model.features.name=mixstyle",
        *SEGMENTATION_ALONE,
    ),
    "cutmix, dsu and the skeleton": (
        "data.augmentation.name=cutmix",
        "model.features.name=dsu",
        "model.skeleton={weight: 0.1, stride: 4}",
        *SEGMENTATION_ALONE,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("rival", RIVALS)
def test_a_rivals_run_that_died_ends_with_the_bits_of_one_that_did_not(
    rival: str, tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    words = ("fit", tiny.file, *RIVALS[rival], "trainer.max_steps=4", "trainer.validate_every=4")
    assert pansite(*words, f"run.root={tmp_path / 'calm'}")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        die_at(4, patch)
        with pytest.raises(MemoryError):
            pansite(*words, f"run.root={tmp_path / 'killed'}")
    assert state(tmp_path / "killed")["global_step"] == 2
    assert pansite(*words, f"run.root={tmp_path / 'killed'}")[0] == 0
    calm, killed = (state(tmp_path / name)["state_dict"] for name in ("calm", "killed"))
    assert calm.keys() == killed.keys()
    for name, value in calm.items():
        assert torch.equal(value, killed[name]), name


def test_the_method_trains_with_gin_by_one_override(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=2", "data.augmentation.name=gin")
    code, _, err = pansite(*words)
    assert code == 0, err
    with (only(tmp_path) / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(float(row[f"loss/{term}"]) > 0 for row in rows for term in ("segmentation", "restoration"))
    assert "loss/consistency" not in rows[0]
