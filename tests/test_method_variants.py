"""Every variant of the method runs by override, through the real command; what it keeps survives a kill."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.batch import PatchBatch
from lightning_modules.dual_ssl import DualSSLModule
from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]
RESTORATION = "model.restoration"

VARIANTS = [
    (f"{RESTORATION}.region=band", f"{RESTORATION}.skip=true"),
    (f"{RESTORATION}.region=entropy", f"{RESTORATION}.decoder=shared"),
    (f"{RESTORATION}.region={{name: mc_dropout, samples: 2, rate: 0.3}}", f"{RESTORATION}.detach_encoder=true"),
    (f"{RESTORATION}.region.name=ema_teacher", f"{RESTORATION}.region.decay=0.9", f"{RESTORATION}.ssim=0.1"),
    (f"{RESTORATION}.region={{name: random, share: 0.4}}", f"{RESTORATION}.fade=0.5"),
    (f"{RESTORATION}.region=whole", f"{RESTORATION}.segment_corrupted=false", "model.contrastive.views=clean"),
    (f"{RESTORATION}.passes=one", f"{RESTORATION}.region=band"),
    (f"{RESTORATION}.passes=one", f"{RESTORATION}.region=random", f"{RESTORATION}.segment_corrupted=false"),
    (f"{RESTORATION}.passes=one", f"{RESTORATION}.region=whole", f"{RESTORATION}.decoder=shared"),
]


def only(root: Path) -> Path:
    (run,) = (path for path in (root / "tiny").iterdir() if path.is_dir())
    return run


def state(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(only(root) / "checkpoints" / "last.ckpt", weights_only=True)
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize("overrides", VARIANTS, ids=" ".join)
def test_a_variant_runs_by_override_and_records_where_m_lies(
    overrides: tuple[str, ...], tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    code, _, err = pansite("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=1", *overrides)
    assert code == 0, err
    with (only(tmp_path) / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["loss/restoration"]) > 0
    assert 0 < float(row["region/inside"]) + float(row["region/outside"]) <= 1 + 1e-6
    assert 0 <= float(row["region/band_excess"]) <= 1


def die_at(call: int, patch: pytest.MonkeyPatch) -> None:
    """Let the training end in the given call of its step, with no chance to save."""
    step, calls = DualSSLModule.training_step, 0

    def mortal(self: DualSSLModule, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == call:
            raise MemoryError("out of memory")
        return step(self, batch, batch_idx)

    patch.setattr(DualSSLModule, "training_step", mortal)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("mc_dropout", "trainer.checkpoint_every=2"),
        ("ema_teacher", "trainer.checkpoint_every=2"),
        ("ema_teacher", "trainer.checkpoint_every=3", "trainer.accumulate=2", "trainer.ema=0.9"),
    ],
    ids=" ".join,
)
def test_a_run_that_died_ends_with_the_bits_of_one_that_did_not(
    overrides: tuple[str, ...], tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    region, *others = overrides
    words = ("fit", tiny.file, f"{RESTORATION}.region.name={region}", *others)
    assert pansite(*words, f"run.root={tmp_path / 'calm'}")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        # After the fourth step: the last checkpoint is older than the teacher then is.
        die_at(10 if "trainer.accumulate=2" in others else 6, patch)
        with pytest.raises(MemoryError):
            pansite(*words, f"run.root={tmp_path / 'killed'}")
    reached = state(tmp_path / "killed")["global_step"]
    assert 0 < reached < 6
    assert pansite(*words, f"run.root={tmp_path / 'killed'}")[0] == 0
    calm, killed = (state(tmp_path / name) for name in ("calm", "killed"))
    assert killed["global_step"] == 6
    for part in ("state_dict", *(["current_model_state"] if "trainer.ema=0.9" in others else [])):
        assert calm[part].keys() == killed[part].keys()
        assert any(".teacher." in name for name in calm[part]) == (region == "ema_teacher")
        for name, value in calm[part].items():
            assert torch.equal(value, killed[part][name]), name
