"""Progress bars speak of training on the source, not of epochs that a run does not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from callbacks.progress import ProgressBar
from experiments.cli import main
from lightning_modules.dual_ssl import DualSSLModule
from tests.callbacks.tiny import kill_now
from tests.conftest import Tiny


def test_the_bar_says_what_goes_on(
    tmp_path: Path, fit: Callable[..., pl.Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, steps=12, progress=True, extra=[ProgressBar()])
    shown = capsys.readouterr().out
    assert "training" in shown
    assert "12/12" in shown
    assert "Epoch" not in shown


def test_the_bar_of_a_run_that_goes_on_counts_the_whole_run(
    tiny: Tiny, tmp_path: Path, in_child: Callable[[Callable[[], Any]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", str(tiny.file), f"run.root={tmp_path}", "trainer.progress_bar=true", "trainer.max_steps=6"]
    words += ["trainer.checkpoint_every=2", "trainer.validate_every=6"]

    def die_in_the_fifth_step() -> None:
        original, calls = DualSSLModule.training_step, []

        def counted(self: DualSSLModule, *arguments: Any) -> Any:
            calls.append(1)
            return kill_now() if len(calls) == 5 else original(self, *arguments)

        DualSSLModule.training_step = counted  # type: ignore[method-assign]  # in a process of its own
        main(words)

    torch.set_num_threads(1)
    assert in_child(die_in_the_fifth_step) == -9
    capsys.readouterr()
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "going on from step 4" in shown
    assert "6/6" in shown
