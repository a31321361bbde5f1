"""A study through the real command, on tiny phantoms: killed, continued, counted, made stale, shown."""

from __future__ import annotations

import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import pytest

import experiments.cli
from experiments.report import page
from experiments.study import records, workers
from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]

STUDY = """
name: small
about: two methods
methods:
  plain: {{experiment: {file}, overrides: [model.restoration.weight=0, model.contrastive.weight=0]}}
  both: {file}
seeds: [0, 1]
dev:
  hill: {{layout: phantom, site: hill, cases: 1, root: {phantoms}}}
overrides:
  - run.root={root}
  - data.source.cases=3
  - data.held_out.west.cases=1
  - data.spacing=[9, 9, 9]
  - evaluation.overlap=0
  - trainer.precision=32
  - trainer.max_steps=4
  - trainer.validate_every=2
  - logging.panel_every=0
"""


class Fork:
    """The command in a fork of this process, which has imported everything."""

    def __init__(self, words: Sequence[str], log: IO[str], environment: Mapping[str, str], lock: IO[str]) -> None:
        self.pid = os.fork()
        if not self.pid:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            sys.stdout = sys.stderr = log
            os.environ.update(environment)
            # The reports are not what is looked at here, and make up a third of so small a run.
            page.write_report = lambda folder: folder / "evaluation" / "report.html"  # type: ignore[assignment]
            code = experiments.cli.main(list(words))
            log.flush()
            os._exit(code)

    def poll(self) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)


def never(*_: object) -> workers.Process:
    raise AssertionError("nothing is to be computed")


def command(study: Path, *words: str) -> list[str]:
    return ["study", *words[:1], str(study), *words[1:]]


@pytest.fixture(scope="module")
def study(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's file; its results lie beside it, its runs in ``runs`` there."""
    home = tmp_path_factory.mktemp("study")
    file = home / "small.yaml"
    file.write_text(STUDY.format(file=tiny.file, phantoms=tiny.phantoms, root=home / "runs"))
    return file


@pytest.fixture(scope="module")
def computed(study: Path) -> Path:
    """The same, computed: a first life is killed in the middle of a cell, the second one computes all."""
    words = [sys.executable, "-m", "experiments", *command(study, "run", "--jobs", "1")]
    # On one core, hence with one thread, as the forks have.
    first = subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )
    begun = time.monotonic()
    while not list((study.parent / "runs").glob("*/*/checkpoints/last.ckpt")) and time.monotonic() - begun < 300:
        assert first.poll() is None, "the study has ended before its time"
        time.sleep(0.02)
    first.kill()
    first.wait()
    # What the forks need is imported once, while the orphan ends.
    import experiments.flow

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "start", Fork)
        patch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        assert experiments.cli.main(command(study, "run")) == 0
    return study


def cells(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.csv"))


@pytest.mark.slow
def test_a_killed_study_goes_on_with_the_same_runs(computed: Path) -> None:
    names = [f"{name}-source-seed{seed}-fold0" for name in ("both", "plain") for seed in (0, 1)]
    assert cells(computed.parent / "small" / "test") == names
    runs = [path.parent for path in (computed.parent / "runs").glob("tiny/*/config.yaml")]
    assert len(runs) == 4, "no run was begun a second time"
    found = [records.read(path) for path in sorted((computed.parent / "small" / "test").glob("*.csv"))]
    assert {record.head.run for record in found} == {run.name for run in runs}
    log = (computed.parent / "runs/studies/small/test/plain-source-seed0-fold0.log").read_text()
    assert log.count("starting") == 1
    # It was told to stop when the study was killed: left alone it would have come to its end, and not gone on.
    assert "going on from step" in log or "trained already" in log
    for record in found:
        assert record.head.roles == {"source": "source_test", "north": "held_out", "west": "held_out"}
        assert record.head.seconds is not None
        assert all(len(row["content"]) == 16 for row in record.rows)
        assert len(record.rows) == 3
        assert record.head.validation is not None


@pytest.mark.slow
def test_what_is_committed_counts_as_done_wherever_the_runs_are(
    computed: Path, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "start", never)
    shutil.copytree(computed.parent / "small", tmp_path / "small")
    code, out, _ = pansite(*command(computed, "run", "--results", str(tmp_path), f"run.root={tmp_path}/elsewhere"))
    assert code == 0
    assert "small, look test (north, west): 4 cells, 4 done, 0 to compute" in out
    # Without the records the runs themselves are found again.
    code, out, _ = pansite(*command(computed, "run", "--results", str(tmp_path / "empty")))
    assert code == 0
    assert "4 done" in out
    assert out.count("finished in") == 4
    written = cells(tmp_path / "empty" / "small" / "test")
    assert written == cells(computed.parent / "small" / "test")


def numbers(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_table_has_the_numbers_of_the_cells(computed: Path, pansite: Command) -> None:
    code, out, err = pansite(*command(computed, "table", "--write"))
    assert code == 0, err
    assert "Sites for the final look" in out
    folder = computed.parent / "small" / "test"
    rows: list[tuple[str, str, str, float]] = []
    for path in folder.glob("*-seed*.csv"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        rows += [(path.name.split("-")[0], r["site"], r["case"], float(r["dice"])) for r in csv.DictReader(lines)]

    def mean(method: str, site: str) -> float:
        return statistics.fmean(dice for name, place, _, dice in rows if (name, place) == (method, site))

    table = {(r["method"], r["quantity"], r["site"]): float(r["value"]) for r in numbers(folder / "table.csv")}
    for method in ("plain", "both"):
        macro = (mean(method, "north") + mean(method, "west")) / 2
        assert table[method, "held_out_dice", ""] == pytest.approx(macro)
        assert table[method, "source_test_dice", ""] == pytest.approx(mean(method, "source"))
        assert table[method, "gap_dice", ""] == pytest.approx(mean(method, "source") - macro)
        worst = min(("north", "west"), key=lambda site: mean(method, site))
        assert table[method, "worst_site_dice", worst] == pytest.approx(mean(method, worst))
    differences = {(r["site"], r["metric"]): r for r in numbers(folder / "table_differences.csv")}
    gained = table["both", "held_out_dice", ""] - table["plain", "held_out_dice", ""]
    assert float(differences["", "dice"]["difference"]) == pytest.approx(gained)
    assert differences["", "dice"]["cases"] == "2"

    results = computed.parent / "RESULTS.md"
    text = results.read_text()
    assert text.count("<!-- small test: begin -->") == 1
    assert f"{table['plain', 'held_out_dice', '']:.3f}" in text
    assert "pansite study table" in text
    results.write_text(text.replace("# What the studies found", "# What the studies found\n\nmine"))
    assert pansite(*command(computed, "table", "--write"))[0] == 0
    assert results.read_text().count("<!-- small test: begin -->") == 1
    assert "mine" in results.read_text()


@pytest.mark.slow
def test_runs_are_compared_by_name_and_unequal_sets_refused(computed: Path, pansite: Command, tmp_path: Path) -> None:
    runs = {record.head.method + str(record.head.seed): computed.parent / "runs/tiny" / record.head.run
            for record in map(records.read, (computed.parent / "small/test").glob("*-seed*.csv"))}  # fmt: skip
    named = [f"{name[:-1]}={run}" for name, run in sorted(runs.items(), reverse=True)]
    code, out, err = pansite("compare", *named, "--output", tmp_path / "out")
    assert code == 0, err
    assert "Difference from plain" in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "comparison.csv", "comparison_differences.csv", "comparison.md", "comparison.html",
    }  # fmt: skip

    less = tmp_path / "less"
    shutil.copytree(runs["both0"], less)
    table = less / "evaluation" / "per_case.csv"
    lines = table.read_text().splitlines()
    gone = lines.pop()
    table.write_text("\n".join(lines) + "\n")
    code, _, err = pansite("compare", f"plain={runs['plain0']}", f"both={less}")
    assert code == 2
    assert f"plain alone has {'/'.join(gone.split(',')[:2])}" in err

    code, _, err = pansite("compare", f"a={runs['plain0']}", f"a={runs['both1']}")
    assert code == 2
    assert "are no seeds of one method" in err
    code, _, err = pansite("compare", f"a={runs['plain0']}", f"b={runs['both0']}", f"a={runs['plain0']}")
    assert code == 2
    assert "seed 0 is there twice" in err
    code, _, err = pansite("compare", runs["plain0"].parent)
    assert code == 2, "four runs of one experiment's name, and of two methods"
