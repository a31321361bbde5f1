"""Every benchmark runs, small and without another environment, and what it reaches is entered whole or not at all."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.benchmarks import results
from tests.benchmarks.all import ROWS
from tests.benchmarks.results import Line, Scale, at_least, at_most, table, write
from tests.benchmarks.turns import Ratio


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_benchmark_runs_at_its_small_size(
    row: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(results, "FILE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(sys, "argv", [row, "--quick", "--without-nnunet", "--threads", "1"])
    runpy.run_module(f"tests.benchmarks.{row}", run_name="__main__")
    assert capfd.readouterr().out.count("\n| ") >= 1
    assert not (tmp_path / "RESULTS.md").exists()


def test_a_ratio_is_the_median_of_pairs_within_its_interval() -> None:
    ratio = Ratio.of([1.0, 2.0, 4.0, 3.0, 8.0], [2.0, 4.0, 4.0, 6.0, 4.0])
    assert ratio.middle == 0.5
    assert ratio.low == 0.5
    assert ratio.high == 2.0


def test_targets_are_met_from_either_side() -> None:
    assert [at_most("", "", 0.5, 0.6).met, at_most("", "", 0.7, 0.6).met] == [True, False]
    assert [at_least("", "", Ratio(1.6, 1.5, 1.7), 1.5).met, at_least("", "", 1.4, 1.5).met] == [True, False]


def test_a_section_of_the_results_is_replaced_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, scale = tmp_path / "RESULTS.md", Scale(False, True, 2, tmp_path)
    monkeypatch.setattr(results.peers, "versions", lambda: {"nnunetv2": "2"})
    monkeypatch.setattr("os.getloadavg", lambda: (1.0, 1.0, 1.0))  # which may change from one to the next
    write("first", "First", [Line("time", "a", "≤ 1×", "0.5×", True)], scale, file)
    write("second", "Second", [Line("time", "b", "≤ 1×", "0.6×", True)], scale, file)
    before = file.read_text("utf-8")
    write("first", "First", [Line("time", "a", "≤ 1×", "0.4×", True)], scale, file)
    after = file.read_text("utf-8")
    assert after == before.replace("0.5×", "0.4×")
    assert after.count("## First") == after.count("## Second") == 1
    assert "nnunetv2 2" in after
    assert table([Line("time", "b", "≤ 1×", "0.6×", True)]) in after
