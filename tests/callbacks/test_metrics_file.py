"""metrics.csv is the truth: every step once, values exact, the file whole at any moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl

from callbacks.metrics_file import MetricsFile, read_metrics
from datamodules.errors import UsageError

Fit = Callable[..., pl.Trainer]


def test_training_and_validation_of_a_step_share_a_row(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    file.log_metrics({"loss/total": 0.1, "epoch": 0}, step=0)
    file.log_metrics({"loss/total": 0.25, "lr": 1e-3}, step=1)
    file.log_metrics({"val/dice": 0.5}, step=1)
    file.finalize("success")
    assert file.path.read_text() == "step,loss/total,lr,val/dice\n1,0.1,,\n2,0.25,0.001,0.5\n"


def test_values_come_back_exactly(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    values = {"a": 1 / 3, "b": 1e-300, "c": -0.1 + 0.3, "d": math.inf}
    file.log_metrics(values, step=6)
    file.flush()
    assert read_metrics(file.path) == [{"step": 7, **values}]


@pytest.mark.parametrize("row", ["3,many", "three,1", ",1", "3", "3,1,2"])
def test_a_damaged_row_is_told_with_its_line(tmp_path: Path, row: str) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(f"step,x\n1,0.5\n{row}\n")
    with pytest.raises(UsageError, match=r"metrics\.csv, line 3: not a row of metrics .*; mend or remove it\."):
        MetricsFile(file)


def test_a_later_life_drops_what_it_takes_again(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    for step in range(6):
        file.log_metrics({"x": step}, step=step)
    file.finalize("failed")
    again = MetricsFile(file.path)
    again.resume_at(4)
    assert [row["step"] for row in read_metrics(file.path)] == [1, 2, 3, 4]
    again.log_metrics({"x": 40}, step=4)
    again.flush()
    assert [row["x"] for row in read_metrics(file.path)] == [0, 1, 2, 3, 40]


def test_rows_wait_so_that_a_long_run_is_not_quadratic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    writes: list[float] = []
    monkeypatch.setattr("callbacks.metrics_file.time.monotonic", lambda: now)
    file = MetricsFile(tmp_path / "metrics.csv")
    original = file.flush

    def counted() -> None:
        writes.append(now)
        original()

    monkeypatch.setattr(file, "flush", counted)
    for step in range(5000):
        now += 0.1
        file.log_metrics({"x": float(step)}, step=step)
        file.save()
    assert 15 <= len(writes) <= 17, "500 s of training write the file every 30 s"
    file._flush_took = 10.0
    now += 400
    file.save()
    assert len(writes) <= 17, "a file that takes long to write is written more seldom"


def test_a_crash_leaves_the_rows_up_to_it(tmp_path: Path, fit: Fit) -> None:
    def dice(step: int) -> float:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, validate=4, save=100, dice=dice)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")] == [1, 2, 3, 4]


def test_a_fit_writes_one_row_a_step_with_step_first(tmp_path: Path, fit: Fit) -> None:
    fit(tmp_path, steps=12, validate=4, save=5, log=2, accumulate=2)
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header[0] == "step"
    assert set(header) == {"step", "loss/total", "fill/near", "val/dice"}
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in rows if "val/dice" in row] == [4, 8, 12]
