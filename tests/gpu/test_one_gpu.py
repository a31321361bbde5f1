"""What only a CUDA device can show: ``pytest -m gpu``. Each test goes through the command or the module's own face."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.batch import PatchBatch
from datamodules.errors import UsageError
from datamodules.patches import RawPatchBatch
from datamodules.single_source import SingleSourceDataModule
from experiments.configuration import load_experiment
from experiments.locate import find_experiment
from lightning_modules import DualSSLModule, ModelConfig, Preprocessing
from lightning_modules.config import ContrastiveConfig
from lightning_modules.dual_ssl import Losses
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.schedules import Progress
from tests.callbacks.test_numerics import same, spoil
from tests.conftest import Tiny
from tests.lightning_modules.ellipsoid_patches import ellipsoid_batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
Command = Callable[..., tuple[int, str, str]]
ON_GPU = ("trainer.accelerator=gpu", "trainer.devices=1")


def fit(pansite: Command, tiny: Tiny, root: Path, *words: str) -> Path:
    """Fit the tiny experiment on the device; the run's folder."""
    code, _, err = pansite("fit", tiny.file, f"run.root={root}", *ON_GPU, *words)
    assert code == 0, err
    return run_in(root)


def run_in(root: Path) -> Path:
    (run,) = (path.parent for path in root.glob("tiny/*/config.yaml"))
    return run


def last(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    return content


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["loss/total"]) for row in csv.DictReader(file)]


def on_device(batch: PatchBatch) -> PatchBatch:
    """The batch as Lightning hands it to the module: keys stay behind."""
    return PatchBatch(*(part.cuda() for part in batch[:4]), batch.key, batch.case)


def small_module() -> DualSSLModule:
    contrast = ContrastiveConfig(weight=0.1)
    model = ModelConfig(network=DynUNetConfig(filters=(8, 16, 32)), contrastive=contrast)
    return DualSSLModule(model, Preprocessing((3.0,) * 3, (-100.0, 240.0), (32,) * 3))


def test_an_overflow_in_half_precision_lowers_the_scale_and_costs_its_step(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = DualSSLModule.losses

    def overflowing(self: DualSSLModule, batch: PatchBatch, progress: Progress) -> Losses:
        computed = calm(self, batch, progress)
        return spoil(computed, "gradient") if progress.step in (3, 4) else computed

    monkeypatch.setattr(DualSSLModule, "losses", overflowing)
    content = last(fit(pansite, tiny, tmp_path, "trainer.precision=16-mixed", "trainer.nonfinite_limit=1"))
    assert content["callbacks"]["NonFiniteGuard"]["skipped"] >= 2
    assert content["MixedPrecision"]["scale"] <= 2.0**16 / 4
    assert all(torch.isfinite(value).all() for value in content["state_dict"].values())


def test_deterministic_runs_agree_to_the_bit_and_so_does_one_that_was_stopped_between(
    tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    words = ("trainer.deterministic=true", "trainer.precision=bf16-mixed", "trainer.ema=0.9")
    calm = last(fit(pansite, tiny, tmp_path / "calm", *words))
    again = last(fit(pansite, tiny, tmp_path / "again", *words))
    assert same(calm["state_dict"], again["state_dict"])
    original = DualSSLModule.training_step

    def stop(self: DualSSLModule, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == 4:
            raise UsageError("stopped on purpose")
        return original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DualSSLModule, "training_step", stop)
        assert pansite("fit", tiny.file, f"run.root={tmp_path / 'stopped'}", *ON_GPU, *words)[0] == 2
    stopped = last(fit(pansite, tiny, tmp_path / "stopped", *words))
    for part in ("state_dict", "optimizer_states", "current_model_state"):
        assert same(calm[part], stopped[part]), part


def test_a_compiled_network_trains_as_the_plain_one_does(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    words = ("trainer.precision=32", "trainer.max_steps=3")
    plain = losses(fit(pansite, tiny, tmp_path / "plain", *words))
    compiled = losses(fit(pansite, tiny, tmp_path / "compiled", *words, "trainer.compile=true"))
    assert compiled == pytest.approx(plain, rel=1e-2)


def test_batches_come_from_pinned_memory_and_their_keys_stay_off_the_device(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned, places = [], []
    original = DualSSLModule.training_step

    def before(self: SingleSourceDataModule, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, RawPatchBatch):
            pinned.append(all(sample.is_pinned() for part in batch[:4] for sample in part))
        return batch

    def step(self: DualSSLModule, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
        places.append({part.device.type for part in batch[:4]} | {f"key on {batch.key.device.type}"})
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SingleSourceDataModule, "on_before_batch_transfer", before)
    monkeypatch.setattr(DualSSLModule, "training_step", step)
    fit(pansite, tiny, tmp_path, "data.workers=1", "trainer.max_steps=2")
    assert pinned == [True, True]
    assert places == [{"cuda", "key on cpu"}] * 2


@pytest.mark.parametrize(("precision", "channels_last", "rel"), [("32", False, 2e-3), ("bf16", True, 5e-2)])
def test_the_device_computes_the_losses_that_the_cpu_does(precision: str, channels_last: bool, rel: float) -> None:
    progress = Progress(5, 10)
    batch = ellipsoid_batch(2, 32)
    expected = small_module().losses(batch, progress)
    module = small_module().cuda()
    if channels_last:
        module.use_channels_last()
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        found = module.losses(on_device(batch), progress)
    found.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)
    # Where M lies hangs on rounding, and with it what is restored.
    one, other = (float(losses.results["segmentation"].loss) for losses in (found, expected))
    assert one == pytest.approx(other, rel=rel)
    assert float(found.total) == pytest.approx(float(expected.total), rel=10 * rel)


def test_cases_are_judged_on_the_device_as_on_the_cpu(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    run = fit(pansite, tiny, tmp_path, "trainer.precision=32")
    tables = []
    for accelerator in ("gpu", "cpu"):
        code, _, err = pansite("evaluate", run, f"trainer.accelerator={accelerator}")
        assert code == 0, err
        with (run / "evaluation" / "per_case.csv").open(newline="") as file:
            tables.append({(row["site"], row["case"]): float(row["dice"]) for row in csv.DictReader(file)})
        for row in (run / "evaluation" / "cases").rglob("*.json"):
            row.unlink()
    assert len(tables[0]) == 5
    assert tables[0] == pytest.approx(tables[1], abs=0.01)


def test_a_step_of_the_full_sized_method_fits_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """Two 96³ patches, one device's share of the shipped batch; prints what a step takes."""
    monkeypatch.setenv("PANSITE_DATA", str(tmp_path))
    config = load_experiment(find_experiment("msd_dual_ssl")).config
    patch = config.data.patch_size
    module = DualSSLModule(config.model, Preprocessing((0.8, 0.8, 2.5), config.data.window, patch)).cuda()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    share = config.data.batch_size // config.trainer.devices
    batch = on_device(ellipsoid_batch(share, patch[0], 1.5))
    torch.cuda.reset_peak_memory_stats()
    times = []
    for step in range(6):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            total = module.losses(batch, Progress(500 + step, 1000)).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
        assert torch.isfinite(total)
    held = torch.cuda.max_memory_allocated() / 2**30
    took = sorted(times[2:])[len(times[2:]) // 2]
    record_property("GiB", round(held, 2))
    record_property("milliseconds a step", round(1000 * took))
    print(f"{torch.cuda.get_device_name()}: {held:.1f} GiB, {1000 * took:.0f} ms a step of {share} × {list(patch)}")
    assert held < torch.cuda.get_device_properties(0).total_memory / 2**30
