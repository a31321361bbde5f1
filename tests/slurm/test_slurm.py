"""Against a real SLURM on this machine: ranks on two nodes, preemption, time limit, requeue, an array, a cancelled run.

And a sweep as an array: what is preempted takes up its own trial, what is killed is repaired. All of it is in one file,
hence one after the other: who tests a cluster mostly waits, and two at once would leave the processor idle.

Needs root, slurm-wlm and munge. Without them the tests are skipped, unless PANSITE_REQUIRE_SLURM is set.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from experiments import commands_runs
from experiments.sweep.opened import reopen
from experiments.sweep.study import Study
from tests.conftest import Tiny
from tests.kills import differences, only_run

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Command = Callable[..., tuple[int, str, str]]
REQUIRED = "PANSITE_REQUIRE_SLURM"
SCRIPT = Path(__file__).with_name("slurm_up.sh")
PATIENCE = 600
STEPS = 100
SWEEP = """
command: [pansite, fit, {tiny}, "${{args_no_hyphens}}"]
method: random
metric: {{name: val/dice, goal: maximize}}
run_cap: 2
parameters:
  model.optimizer.lr: {{distribution: log_uniform_values, min: 0.001, max: 0.1}}
"""
LONG = [f"trainer.max_steps={STEPS}", "trainer.validate_every=40", "trainer.checkpoint_every=5", "trainer.log_every=7"]


def reason_to_skip() -> str | None:
    if os.geteuid():
        return "SLURM's daemons are started by root alone"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in ("sbatch", "slurmctld", "slurmd", "munged") if shutil.which(name, path=path) is None]
    return f"no {missing[0]} here: install slurm-wlm and munge" if missing else None


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two nodes, whose client commands find it."""
    if (reason := reason_to_skip()) is not None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, but: {reason}")
        pytest.skip(reason)
    # Not among pytest's folders, which are closed to the user munge.
    folder = Path(tempfile.mkdtemp(prefix="pansite-slurm-"))
    folder.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            patch.delenv(name)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("WANDB_MODE", raising=False)
        try:
            subprocess.run([SCRIPT, "up", folder], check=True, timeout=PATIENCE)
            yield
        finally:
            subprocess.run([SCRIPT, "down", folder], check=True, timeout=PATIENCE)
            shutil.rmtree(folder)


def slurm(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def state(job: str) -> str:
    (found,) = re.findall(r"JobState=(\w+)", slurm("scontrol", "--oneliner", "show", "job", job))
    return str(found)


def wait(what: str, come: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not come():
        assert time.monotonic() < deadline, f"{what} has not come in {PATIENCE} s"
        time.sleep(0.4)  # each look is a process or two, beside tests that need the processor


def goes_on(root: Path, job: str) -> bool:
    """Whether a job waits or runs; one that has failed fails the test."""
    assert state(job) in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "COMPLETED"), log_of(root, job)
    return state(job) != "COMPLETED"


def log_of(root: Path, job: str) -> str:
    return "".join(path.read_text() for path in sorted(root.glob(f"submitted/*/*.{job}.log")))


def minutes(job: str) -> int:
    """That a job has run."""
    (found,) = re.findall(r"RunTime=00:(\d\d)", slurm("scontrol", "--oneliner", "show", "job", job))
    return int(found)


def submitted(pansite: Command, *words: object) -> str:
    code, out, err = pansite("submit", *words)
    assert code == 0, err
    return out.split()[1].rstrip(",:")


def urgent() -> None:
    """A job of higher priority asks for all nodes."""
    slurm("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")


def waiting_signals(job: str) -> list[bool]:
    """Of each rank of a job that is stopped, whether SIGUSR1 waits for it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            variables = (process / "environ").read_bytes().split(b"\0")
            own = {f"SLURM_JOB_ID={job}", "SLURM_STEP_ID=0", f"SLURM_TASK_PID={process.name}"}
            if {word.encode() for word in own} <= set(variables):
                (waiting,) = re.findall(r"^ShdPnd:\s*(\w+)", (process / "status").read_text(), flags=re.M)
                found.append(bool(int(waiting, 16) & 1 << signal.SIGUSR1 - 1))
    return found


def test_two_nodes_preempted_and_out_of_time_end_with_the_bits_of_one_undisturbed_node(
    cluster: None, tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    calm, root = tmp_path / "calm", tmp_path / "slurm"
    profile = "cluster.profiles.default"
    setup = f"{profile}.setup=[export MASTER_ADDR=127.0.0.1]"  # the nodes' names are known to SLURM alone
    nodes = ["trainer.nodes=2", "trainer.devices=1", f"{profile}.signal=300"]
    job = submitted(pansite, tiny.file, *LONG, setup, *nodes, f"run.root={root}", "logging.wandb=offline")
    wait("a checkpoint", lambda: goes_on(root, job) and [*root.glob("tiny/*/checkpoints/last.ckpt")])
    urgent()
    wait("the requeue", lambda: state(job) == "PENDING")
    told = re.findall(rf"preempted after step (\d+); job {job} is back in the queue", log_of(root, job))
    assert len(told) == 1
    assert 5 <= int(told[0]) < STEPS
    assert [(row.state, row.step, row.job) for row in commands_runs.rows(root)] == [
        ("queued", f"{told[0]} / {STEPS}", job)
    ]

    # In the middle of its next life its time is cut to less than the five minutes before which the signal is due. SLURM
    # looks at the clock every half a minute: until then the job is held, and the undisturbed run has the machine.
    run = only_run(root)
    saved = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    slurm("scontrol", "update", f"JobId={job}", "TimeLimit=60", "StartTime=now")
    wait("a checkpoint", lambda: goes_on(root, job) and (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns != saved)
    slurm("scancel", "--signal=STOP", job)
    assert waiting_signals(job) == [False, False]
    slurm("scontrol", "update", f"JobId={job}", f"TimeLimit={4 + minutes(job)}")
    other = submitted(pansite, tiny.file, *LONG, setup, "trainer.devices=2", f"run.root={calm}")

    def requeued() -> bool:
        if waiting_signals(job) == [True, True]:  # else SLURM has let it go on by itself
            subprocess.run(["scancel", "--signal=CONT", job], check=False, timeout=PATIENCE)
        return state(job) == "PENDING"

    wait("the signal, and the requeue", requeued)
    lives = re.findall(r"going on from step (\d+)|preempted after step (\d+)", log_of(root, job))
    begun, left = int(lives[1][0]), int(lives[2][1])
    assert int(told[0]) == begun < left < STEPS
    assert "Restarts=2" in slurm("scontrol", "--oneliner", "show", "job", job)

    slurm("scontrol", "update", f"JobId={job}", "TimeLimit=60", "StartTime=now")
    wait("the end", lambda: not goes_on(root, job))
    wait("the undisturbed run's end", lambda: not goes_on(calm, other))
    assert [row.state for row in commands_runs.rows(root)] == ["done"]
    assert f"going on from step {left}\n" in log_of(root, job)
    assert differences(only_run(calm), run) == []
    assert (run / "job.sbatch").read_text() == next(root.glob("submitted/*/job.sbatch")).read_text()
    pieces = {path.name.partition("-run-")[2].partition("-")[2] for path in run.glob("wandb/offline-run-*")}
    assert pieces == {(run / "wandb" / "id").read_text().strip()}, "all lives are one run in W&B"


def test_tasks_take_a_trial_each_and_keep_it(cluster: None, tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    file = tmp_path / "rates.yaml"
    file.write_text(SWEEP.format(tiny=tiny.file))
    words = [f"run.root={tmp_path}", "trainer.max_steps=60", "trainer.validate_every=30", "trainer.checkpoint_every=5"]
    job = submitted(pansite, "--sweep", file, "--array", "2%2", *words, "cluster.profiles.default.cpus=1")
    mine, other = f"{job}_0", f"{job}_1"
    folder = tmp_path / "sweeps" / "rates"

    wait("training", lambda: len([*tmp_path.glob("tiny/*/checkpoints/last.ckpt")]) == 2)
    urgent()
    wait("the requeue", lambda: all(state(task) == "PENDING" for task in (mine, other)))
    # One never comes back.
    slurm("scancel", other)
    slurm("scontrol", "update", f"JobId={mine}", "StartTime=now")
    wait("the end", lambda: state(mine) == "COMPLETED")

    log = log_of(tmp_path, mine)
    numbers = re.findall(r"^trial (\d):? .*model\.optimizer\.lr", log, flags=re.M)
    assert len(numbers) == 2
    assert len(set(numbers)) == 1, "its own trial, twice"
    assert "going on from step" in log
    opened = reopen(folder)
    states = {each.number: each.state for each in Study(folder, opened.plan, 0).shown()}
    own, lost = int(numbers[0]), 1 - int(numbers[0])
    assert states == {own: "done", lost: "waiting"}, log
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as on the cluster
    code, out, err = pansite("sweep", folder, "--repair")
    torch.set_num_threads(threads)
    assert code == 0, err
    assert f"trial {lost} again" in out
    assert [each.state for each in Study(folder, opened.plan, 0).shown()] == ["done", "done"]


def test_an_array_is_preempted_by_sigterm_and_goes_on_and_what_is_cancelled_stays_so(
    cluster: None, tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    # As clusters are set up that know nothing of a signal of the user's before a preemption.
    configuration = Path(os.environ["SLURM_CONF"])
    configuration.write_text(configuration.read_text().replace("SlurmctldParameters=", "# SlurmctldParameters="))
    slurm("scontrol", "reconfigure")
    steps = "trainer.max_steps=150"
    profile = ["cluster.profiles.default.cpus=1", "cluster.profiles.default.sbatch=[--begin=now+1hour]"]
    words = [*LONG, steps, "data.workers=1", f"run.root={tmp_path}", *profile]
    job = submitted(pansite, tiny.file, *words, "--seeds", "3,4")
    tasks = {"3": f"{job}_0", "4": f"{job}_1"}
    rows = commands_runs.rows(tmp_path)
    assert [(row.seed, row.state, row.job) for row in rows] == [(seed, "queued", tasks[seed]) for seed in tasks]
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")

    def row(seed: str) -> commands_runs.Row:
        (found,) = (row for row in commands_runs.rows(tmp_path) if row.seed == seed)
        return found

    def step(seed: str) -> int:
        return int(row(seed).step.partition(" ")[0])

    wait("training", lambda: all(step(seed) > 0 for seed in tasks))
    urgent()
    wait("the requeue", lambda: all(state(task) == "PENDING" for task in tasks.values()))
    left = {seed: step(seed) for seed in tasks}
    for seed, task in tasks.items():
        told = f"preempted after step {left[seed]}; job {task} is back in the queue and goes on from there"
        assert told in log_of(tmp_path, task)
        slurm("scontrol", "update", f"JobId={task}", "StartTime=now")

    wait("training", lambda: step("4") > left["4"])
    slurm("scancel", tasks["4"])
    wait("its end", lambda: state(tasks["4"]) == "CANCELLED" and row("4").state == "stopped")
    log = log_of(tmp_path, tasks["4"])
    assert f"stopped after step {step('4')} by SIGTERM" in log
    assert "Traceback" not in log
    wait("the other's end", lambda: state(tasks["3"]) == "COMPLETED")
    assert (row("3").state, row("3").step) == ("done", "150 / 150")
    assert state(tasks["4"]) == "CANCELLED"

    # The same command goes on, here without SLURM.
    stopped = step("4")
    code, out, err = pansite("run", tiny.file, *LONG, steps, "data.workers=1", f"run.root={tmp_path}", "seed=4")
    assert code == 0, err
    assert f"going on from step {stopped}" in out
    for run in (tmp_path / "tiny").glob("*/metrics.csv"):
        with run.open() as file:
            found = [int(line["step"]) for line in csv.DictReader(file)]
        assert found == sorted(set(found))
