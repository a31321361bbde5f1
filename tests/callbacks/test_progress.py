"""Progress bars speak of training on the source, not of epochs that a run does not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl

from callbacks.progress import ProgressBar


def test_the_bar_says_what_goes_on(
    tmp_path: Path, fit: Callable[..., pl.Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, steps=12, progress=True, extra=[ProgressBar()])
    shown = capsys.readouterr().out
    assert "training" in shown
    assert "12/12" in shown
    assert "Epoch" not in shown
