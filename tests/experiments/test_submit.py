"""The job that ``pansite submit`` writes, with a stand-in for ``sbatch``; ``tests/slurm`` gives it to a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from experiments.configuration import load_experiment

Command = Callable[..., tuple[int, str, str]]

EXPERIMENT = """
name: a
data: {source: {layout: msd, root: nowhere}, batch_size: 4, workers: 3}
trainer: {accelerator: gpu, devices: 2, nodes: 2}
cluster:
  profile: big
  profiles:
    big:
      partition: gpu
      account: lab
      time: 1-00:00:00
      gpu_type: a100
      memory: 64G
      signal: 300
      requeue: false
      setup: [module load cuda, "source ~/env/bin/activate"]
      sbatch: [--exclusive, "--comment=a b"]
    small: {partition: short, time: "30", gpus: 1, cpus: 2}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(EXPERIMENT.replace("name: a", f"name: {name}"))
    return tmp_path


@pytest.fixture
def sbatch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that takes every job under the number 77."""
    script = folder / "bin" / "sbatch"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\nbash -n \"$2\" && echo '77;cluster'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return script


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


def test_a_dry_run_prints_the_whole_job_and_writes_nothing(folder: Path, pansite: Command) -> None:
    before = sorted(folder.rglob("*"))
    code, out, err = pansite("submit", "a.yaml", "--dry-run")
    assert code == 0
    assert sorted(folder.rglob("*")) == before
    assert out.startswith("#!/bin/bash\n# Written by: pansite submit a\n")
    job = Path(err.strip().removeprefix("would become ").removesuffix(":")).parent
    assert job.parent == folder / "runs" / "submitted"
    assert options(out) == [
        "--job-name=a", "--partition=gpu", "--account=lab", "--time=1-00:00:00", "--nodes=2", "--ntasks-per-node=2",
        "--gpus-per-node=a100:2", "--cpus-per-task=4", "--mem=64G", "--signal=USR1@300", "--no-requeue",
        "--open-mode=append", "--exclusive", "--comment=a b", f"--output={job}/a.%j.log", f"--chdir={folder}",
    ]  # fmt: skip
    rest = [line for line in out.splitlines() if line and not line.startswith("#")]
    assert rest[2].startswith(f"export PANSITE_JOB_FILE={job}/job.sbatch ")
    assert rest[3:5] == ["module load cuda", "source ~/env/bin/activate"]
    assert rest[5] == f"run=({job}/a.yaml)"
    assert rest[6].startswith("exec srun --kill-on-bad-exit=1 --cpus-per-task=4 /")
    assert rest[6].endswith('run "${run[@]}"')


@pytest.mark.parametrize(
    ("words", "lines", "missing"),
    [
        (["cluster.profile=small"], ["--partition=short", "--time=30", "--gpus-per-node=1"], "--mem"),
        (["cluster.profile=small"], ["--cpus-per-task=2", "--signal=USR1@120"], "--account"),
        (["cluster.profile=default"], ["--gpus-per-node=2", "--signal=USR1@120", "--requeue"], "--partition"),
        (["cluster.profile=default", "trainer.accelerator=cpu"], ["--ntasks-per-node=2"], "--gpus"),
    ],
)  # fmt: skip
def test_another_profile_is_a_word_on_the_command_line(
    folder: Path, pansite: Command, words: list[str], lines: list[str], missing: str
) -> None:
    code, out, _ = pansite("submit", "a.yaml", "--dry-run", *words)
    assert code == 0
    assert set(lines) <= set(options(out))
    assert not any(line.startswith(missing) for line in options(out))


def test_experiments_and_seeds_become_an_array_whose_tasks_are_the_runs(
    folder: Path, sbatch: Path, pansite: Command
) -> None:
    code, out, err = pansite("submit", "a.yaml", "b.yaml", "trainer.max_steps=9", "run.root=here", "--seeds", "0,3")
    assert (code, err) == (0, "")
    (job,) = (folder / "here" / "submitted").iterdir()
    assert out == f"job 77, an array of 4 runs: {job}/job.sbatch\n"
    script = (job / "job.sbatch").read_text()
    assert "--array=0-3" in options(script)
    assert f"--output={job}/a+1.%A_%a.log" in options(script)
    record = json.loads((job / "job.json").read_text())
    assert (record["job"], [(task["name"], task["seed"]) for task in record["tasks"]]) == (
        "77",
        [("a", 0), ("a", 3), ("b", 0), ("b", 3)],
    )
    # What each task would run, said by the shell itself.
    said = script.replace("exec srun", "echo srun").replace("module load cuda", "").replace("source ~", ": ~")
    for task, (name, seed) in enumerate([("a", 0), ("a", 3), ("b", 0), ("b", 3)]):
        done = subprocess.run(
            ["bash", "-c", said], env={**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}, capture_output=True, text=True,
        )  # fmt: skip
        words = done.stdout.split()
        assert words[-4:] == [f"{job}/{name}.yaml", "trainer.max_steps=9", "run.root=here", f"seed={seed}"]
        config = load_experiment(Path(words[-4]), words[-3:]).config
        assert (config.name, config.seed, config.trainer.max_steps) == (name, seed, 9)


def test_what_is_queued_stays_as_it_was_when_its_file_is_edited(folder: Path, sbatch: Path, pansite: Command) -> None:
    assert pansite("submit", "a.yaml", "data.batch_size=8")[0] == 0
    (folder / "a.yaml").write_text("name: other\n")
    (job,) = (folder / "runs" / "submitted").iterdir()
    kept = yaml.safe_load((job / "a.yaml").read_text())
    assert (kept["name"], kept["data"]["batch_size"]) == ("a", 8)


def test_runs_that_ask_for_different_things_become_two_jobs(folder: Path, sbatch: Path, pansite: Command) -> None:
    text = (folder / "b.yaml").read_text()
    (folder / "b.yaml").write_text(text.replace("profile: big", "profile: small"))
    code, out, _ = pansite("submit", "a.yaml", "b.yaml")
    assert code == 0
    assert len(out.splitlines()) == len(list((folder / "runs" / "submitted").iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seeds", "0,x"], "--seeds: write whole numbers with commas, such as 0,1,2, not '0,x'."),
        (["cluster.profile=bgi"], "cluster.profile: there is no profile 'bgi'; did you mean 'big'?"),
        (["cluster.profiles.big.time=1h"], "write 90 (minutes), 4:00:00 or 1-00:00:00, not '1h'."),
        (["cluster.profiles.big.memory=64 GB"], "write it as 64G or 65536M, not '64 GB'."),
        (["cluster.profiles.big.sbatch=[exclusive]"], "lists options of sbatch, such as --exclusive, not 'exclusive'."),
        (["cluster.profiles.big.signal=0"], "cluster.profiles.big.signal: must be at least 1, not 0."),
        (["cluster.profiles.big.cpus=0"], "cluster.profiles.big.cpus: must be at least 1, not 0."),
        (["cluster.profiles.big.gpus=-1"], "cluster.profiles.big.gpus: must be 0 or more, not -1."),
    ],
)
def test_a_mistake_is_told_before_anything_is_queued(
    folder: Path, sbatch: Path, pansite: Command, words: list[str], sentence: str
) -> None:
    code, out, err = pansite("submit", "a.yaml", *words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert not (folder / "runs").exists()


def test_a_missing_or_refusing_sbatch_is_said(
    folder: Path, sbatch: Path, pansite: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2; exit 1\n")
    code, _, err = pansite("submit", "a.yaml")
    assert code == 2
    assert "invalid partition specified: gpu; see the key cluster." in err
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    code, _, err = pansite("submit", "a.yaml")
    assert code == 2
    assert "sbatch: there is no such command here" in err
