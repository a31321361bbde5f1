"""What tests of the report share."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.report.page import write_report
from tests.experiments.reported_run import make_run


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose report is written; left as it is."""
    folder = make_run(tmp_path_factory.mktemp("runs"))
    assert write_report(folder) == folder / "evaluation" / "report.html"
    return folder


@pytest.fixture(scope="session")
def html(reported: Path) -> str:
    """That report."""
    return (reported / "evaluation" / "report.html").read_text(encoding="utf-8")
