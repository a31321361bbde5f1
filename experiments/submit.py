"""``pansite submit``: experiments × seeds into the queue of a SLURM cluster."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.atomic import write_json, write_text
from datamodules.errors import UsageError
from experiments.configuration import Loaded, load_experiment
from experiments.locate import find_experiment
from experiments.sbatch import Task, options, render

FOLDER = "submitted"
RECORD = "job.json"
SCRIPT = "job.sbatch"


@dataclass(frozen=True)
class Job:
    """Runs that become one job.

    Attributes:
        folder: of its file, its log, and the experiments as they were when it was submitted.
        script: its file.
        experiments: the resolved YAML of each experiment, by path.
        tasks: its runs.
    """

    folder: Path
    script: str
    experiments: dict[Path, str]
    tasks: list[Task]


def submit(experiments: Sequence[str], overrides: Sequence[str], seeds: Sequence[int], dry_run: bool) -> int:
    """Submit every experiment with every seed.

    Args:
        experiments: files, or names of shipped experiments.
        overrides: of all of them.
        seeds: none leaves each experiment its own.
        dry_run: print the job files and write nothing.

    Raises:
        UsageError: ``sbatch`` is missing or refuses.
    """
    for job in _jobs(experiments, overrides, seeds):
        if dry_run:
            print(f"would become {job.folder / SCRIPT}:", file=sys.stderr)
            print(job.script, end="")
            continue
        for path, yaml in job.experiments.items():
            write_text(path, yaml)
        write_text(job.folder / SCRIPT, job.script)
        number = sbatch(job.folder / SCRIPT)
        record = {
            "job": number,
            "time": time.time(),
            "tasks": [{"name": task.config.name, "seed": task.config.seed} for task in job.tasks],
        }
        write_json(job.folder / RECORD, record)
        runs = f", an array of {len(job.tasks)} runs" if len(job.tasks) > 1 else ""
        print(f"job {number}{runs}: {job.folder / SCRIPT}")
    return 0


def _jobs(experiments: Sequence[str], overrides: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """One job for all runs that ask the same of the cluster."""
    alike: dict[tuple[str, ...], list[tuple[str, Loaded]]] = {}
    for name in dict.fromkeys(experiments):
        path = find_experiment(name)
        loaded = load_experiment(path, list(overrides))
        config = loaded.config
        key = (config.run.root, *options(config), *config.cluster.chosen().setup)
        alike.setdefault(key, []).append((path.stem, loaded))
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return [_job(members, overrides, seeds, stamp) for members in alike.values()]


def _job(members: list[tuple[str, Loaded]], overrides: Sequence[str], seeds: Sequence[int], stamp: str) -> Job:
    first = members[0][1].config
    name = first.name if len(members) == 1 else f"{first.name}+{len(members) - 1}"
    folder = free(Path(first.run.root) / FOLDER / f"{stamp}-{name}")
    files: dict[Path, str] = {}
    tasks = []
    for stem, loaded in members:
        # As it is now: the file may be edited while the job waits, and what is requeued must stay the same run.
        path = folder / f"{stem}.yaml"
        while path in files:
            path = path.with_stem(f"{path.stem}_")
        files[path] = loaded.yaml
        if not seeds:
            tasks.append(Task(loaded.config, (str(path), *overrides)))
        for seed in seeds:
            tasks.append(Task(replace(loaded.config, seed=seed), (str(path), *overrides, f"seed={seed}")))
    words = ["pansite", "submit", *(stem for stem, _ in members), *overrides]
    written_by = shlex.join([*words, *(["--seeds", ",".join(map(str, seeds))] if seeds else [])])
    places = (str(folder / SCRIPT), str(folder / name), str(Path.cwd()))
    return Job(folder, render(tasks, command(), written_by, name, *places), files, tasks)


def free(folder: Path) -> Path:
    """``folder``, or where that is taken the first of its name with a number."""
    number = 1
    free = folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def command() -> list[str]:
    """This very installation's command, whatever is activated where the job runs."""
    script = Path(sys.executable).with_name("pansite")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "experiments"]


def sbatch(script: Path) -> str:
    """Give a job file to SLURM, and tell the job's number.

    Raises:
        UsageError: ``sbatch`` is missing or refuses.
    """
    try:
        done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UsageError(
            f"sbatch: there is no such command here; submit {script} where SLURM is, or look with --dry-run."
        ) from error
    if done.returncode:
        said = " ".join(done.stderr.split()).removeprefix("sbatch: error: ")
        raise UsageError(f"sbatch refuses {script}: {said or f'exit code {done.returncode}'}; see the key cluster.")
    return done.stdout.strip().partition(";")[0]
