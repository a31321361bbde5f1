"""``pansite runs``: what each run under a folder is doing, also where its process can no longer say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from callbacks.requests import Request, Stopped
from experiments import commands_runs, status
from experiments.status import Status

Command = Callable[..., tuple[int, str, str]]
HOUSE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(status, "jobs", lambda: None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run at step 30 of 90."""
    folder = tmp_path / "runs" / "a" / "0123456789"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: a\nseed: 4\ntrainer: {max_steps: 90}\n")
    (folder / "split.json").write_text("{}")
    (folder / "metrics.csv").write_text("step,loss/total,val/dice\n10,1.0,0.5\n20,1.0,0.75\n30,1.0,\n")
    return folder


def shown(run: Path) -> commands_runs.Row:
    (row,) = commands_runs.rows(run.parents[1])
    return row


def test_a_run_tells_its_state_its_step_and_its_best_metric(run: Path, pansite: Command) -> None:
    assert shown(run) == commands_runs.Row("a/0123456789", "4", "unknown", "30 / 90", "0.750", "–")
    with status.fitting(run, 0, 90):
        assert shown(run).state == "running (fit)"
    assert (shown(run).state, shown(run).step) == ("trained", "90 / 90")
    with status.evaluating(run, 90):
        assert shown(run).state == "running (evaluate)"
    assert shown(run).state == "done"
    with status.fitting(run, 90, 90):  # nothing to do, and the evaluation stands
        assert shown(run).state == "done"
    code, out, _ = pansite("runs", run.parents[1])
    assert code == 0
    assert [cell.strip() for cell in out.splitlines()[-2].split("│")[1:-1]] == [
        "a/0123456789", "4", "done", "90 / 90", "0.750", "–",
    ]  # fmt: skip
    # Asked for at any level.
    assert commands_runs.rows(run.parent)[0].run == commands_runs.rows(run)[0].run == "0123456789"


@pytest.mark.parametrize(
    ("error", "state", "step"),
    [
        (Stopped(Request.PREEMPT, step=33), "preempted", "33 / 90"),
        (Stopped(Request.TERMINATE, step=33), "stopped", "33 / 90"),
        (KeyboardInterrupt(), "stopped", "30 / 90"),
        (RuntimeError("out of memory\nand more"), "failed: out of memory", "30 / 90"),
        (MemoryError(), "failed: MemoryError", "30 / 90"),
    ],
)
def test_how_a_run_was_left_is_told(run: Path, error: BaseException, state: str, step: str) -> None:
    with pytest.raises(type(error)), status.fitting(run, 0, 90):
        raise error
    assert (shown(run).state, shown(run).step) == (state, step)


def test_an_evaluation_says_done_of_what_is_trained_alone_and_a_mistake_says_nothing(run: Path) -> None:
    from datamodules.errors import UsageError

    with pytest.raises(Stopped), status.fitting(run, 0, 90):
        raise Stopped(Request.TERMINATE, step=33)
    with pytest.raises(UsageError), status.evaluating(run, 90):
        raise UsageError("no such site")
    assert shown(run).state == "stopped"
    with status.evaluating(run, 90):
        pass
    assert (shown(run).state, shown(run).step) == ("stopped", "33 / 90")


def test_a_killed_process_is_told_from_a_living_one_and_from_another_with_its_number(run: Path) -> None:
    code = (
        f"from pathlib import Path; from experiments import status; status.write(Path({str(run)!r}), 'running', 'fit')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(HOUSE)}, timeout=60)
    assert shown(run).state == "killed"
    status.write(run, "running", "fit")
    assert shown(run).state == "running (fit)"
    saved = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**saved, "born": saved["born"] - 1}))
    assert shown(run).state == "killed"
    (run / "status.json").write_text("{half")
    assert shown(run).state == "unknown"


HERE = Status("running", "fit", None, "", os.getpid(), -1, "elsewhere", "", "12_3", 0.0)


@pytest.mark.parametrize(
    ("state", "jobs", "told"),
    [
        ("running", {"12_3": "RUNNING"}, "running"),
        ("running", {}, "killed"),
        ("running", None, "running on elsewhere"),
        ("running", {"12_3": "PENDING"}, "queued"),
        ("preempted", {"12_3": "PENDING"}, "queued"),
        ("preempted", {"12_3": "RUNNING"}, "running"),
        ("preempted", {"12_3": "COMPLETING"}, "preempted"),
        ("preempted", {"12_4": "PENDING"}, "preempted"),
        ("stopped", {}, "stopped"),
        ("done", {"12_3": "RUNNING"}, "done"),
    ],
)
def test_a_job_on_another_machine_is_what_slurm_says_of_it(
    state: status.State, jobs: dict[str, str] | None, told: str
) -> None:
    import getpass

    assert status.now(replace(HERE, state=state, user=getpass.getuser()), jobs) == told


def test_submitted_runs_that_have_not_begun_wait_below(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for job, tasks in (("7", [("b", 0), ("b", 1)]), ("8", [("c", 2)]), ("9", [("d", 0)])):
        record = run.parents[1] / "submitted" / job / "job.json"
        record.parent.mkdir(parents=True)
        entries = [{"name": name, "seed": seed} for name, seed in tasks]
        record.write_text(json.dumps({"job": job, "time": 0, "tasks": entries}))
    # Its first task is the run that is there, its second waits; the others wait, and are gone.
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    status.write(run, "running", "fit")
    monkeypatch.setattr(status, "jobs", lambda: {"7_0": "RUNNING", "7_1": "PENDING", "8": "PENDING"})
    found = [(row.run, row.seed, row.state, row.job) for row in commands_runs.rows(run.parents[1])]
    assert found == [
        ("a/0123456789", "4", "running (fit)", "7_0"),
        ("b/…", "1", "queued", "7_1"),
        ("c/…", "2", "queued", "8"),
    ]


def test_a_folder_that_is_not_there_or_holds_no_run_is_said(tmp_path: Path, pansite: Command) -> None:
    code, _, err = pansite("runs", tmp_path / "nowhere")
    assert code == 2
    assert "there is no such folder" in err
    code, out, _ = pansite("runs", tmp_path)
    assert code == 0
    assert "no run here" in out


def test_it_needs_nothing_heavy(run: Path) -> None:
    code = (
        "import sys; from experiments.cli import main\n"
        f"assert main(['runs', {str(run.parents[1])!r}]) == 0\n"
        "assert main(['submit', 'phantom_quick', '--dry-run']) == 0\n"
        "assert not {'torch', 'pytorch_lightning', 'monai', 'scipy', 'wandb'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
