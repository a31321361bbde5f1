"""A run folder that no report can be written of: one sentence that names the file, and no half page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from datamodules.errors import UsageError
from experiments.report.page import write_report
from tests.experiments.reported_run import make_run
from tests.experiments.rich_run import enrich


def test_a_volume_that_is_something_else_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=1, slices=False)
    enrich(folder)
    path = folder / "evaluation" / "volumes" / "phantom_a" / "case_000.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(UsageError, match=re.escape(f"{path}: not the volume of a case")):
        write_report(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.yaml").unlink(), "not a run folder"),
        (lambda f: (f / "evaluation/summary.json").unlink(), "has not been evaluated yet"),
        (lambda f: (f / "evaluation/per_case.csv").unlink(), "per_case.csv: can't be read"),
        (lambda f: (f / "evaluation/summary.json").write_text("{"), "summary.json: not readable JSON"),
        (lambda f: (f / "evaluation/summary.json").write_text("{}"), "summary.json: not a summary"),
        (lambda f: (f / "metrics.csv").write_text("step,a\n1,b\n"), "metrics.csv, line 2: not a row"),
        (lambda f: (f / "config.yaml").write_text("a: [1\nb: :"), "config.yaml: not readable YAML"),
    ],
)
def test_what_is_no_evaluated_run_is_refused_in_one_sentence(tmp_path: Path, damage: Any, message: str) -> None:
    folder = make_run(tmp_path, cases=1, slices=False)
    damage(folder)
    with pytest.raises(UsageError, match=message) as error:
        write_report(folder)
    assert "\n" not in str(error.value)
    assert not (folder / "evaluation" / "report.html").exists()


def test_slices_that_are_something_else_are_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=1)
    path = folder / "evaluation" / "overlays" / "phantom_a" / "case_000.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(UsageError, match=re.escape(str(path))):
        write_report(folder)
