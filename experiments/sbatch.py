"""The job file that ``pansite submit`` writes: readable, complete, and to be given to ``sbatch`` by hand as well."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.config import ExperimentConfig
from experiments.run_folder import JOB_FILE


@dataclass(frozen=True)
class Task:
    """One run of a job.

    Attributes:
        config: its experiment.
        words: of the command, after ``pansite run``.
    """

    config: ExperimentConfig
    words: tuple[str, ...]


def options(config: ExperimentConfig) -> list[str]:
    """What a run asks of ``sbatch``; runs that ask the same can share an array."""
    profile, trainer = config.cluster.chosen(), config.trainer
    gpus = profile.gpus
    if gpus is None:
        gpus = trainer.devices if trainer.accelerator == "gpu" else 0
    wanted = {
        "partition": profile.partition,
        "account": profile.account,
        "time": profile.time,
        "nodes": trainer.nodes,
        "ntasks-per-node": trainer.devices,
        "gpus-per-node": f"{profile.gpu_type}:{gpus}" if gpus and profile.gpu_type else gpus or None,
        "cpus-per-task": cpus(config),
        "mem": profile.memory,
        # Before the time limit, and where the cluster is set up so, before a preemption: save and requeue.
        "signal": f"USR1@{profile.signal}",
    }
    return [
        *(f"--{name}={value}" for name, value in wanted.items() if value is not None),
        "--requeue" if profile.requeue else "--no-requeue",
        # A requeued job goes on in the same log.
        "--open-mode=append",
        *profile.sbatch,
    ]


def cpus(config: ExperimentConfig) -> int:
    """CPUs of one task."""
    return config.cluster.chosen().cpus or config.data.workers + 1


def render(
    tasks: Sequence[Task], command: Sequence[str], written_by: str, name: str, file: str, log: str, working_folder: str
) -> str:
    """The job file of runs that ask the same of the cluster.

    Args:
        tasks: the runs; several become an array.
        command: ``pansite``, as the job shall start it.
        written_by: the command line that this comes from.
        name: of the job.
        file: where the job file will stand.
        log: path of the log without its ending.
        working_folder: where the job runs.
    """
    config = tasks[0].config
    array = [f"--array=0-{len(tasks) - 1}"] if len(tasks) > 1 else []
    lines = [
        "#!/bin/bash",
        f"# Written by: {' '.join(written_by.splitlines())}",
        *(
            f"#SBATCH {option}"
            for option in (
                f"--job-name={name}",
                *array,
                *options(config),
                f"--output={log}.{'%A_%a' if array else '%j'}.log",
                f"--chdir={working_folder}",
            )
        ),
        "set -euo pipefail",
        "export PYTHONUNBUFFERED=1  # the log shows what is said when it is said",
        f"export {JOB_FILE}={shlex.quote(file)}  # a copy of it goes into the run's folder",
        *config.cluster.chosen().setup,
        "",
    ]
    if array:
        lines.append('case "$SLURM_ARRAY_TASK_ID" in')
        lines += [f"  {number}) run=({shlex.join(task.words)}) ;;" for number, task in enumerate(tasks)]
        lines.append("esac")
    else:
        lines.append(f"run=({shlex.join(tasks[0].words)})")
    # Since 22.05 srun does not take over the CPUs of a task from sbatch.
    srun = f"srun --kill-on-bad-exit=1 --cpus-per-task={cpus(config)}"
    lines.append(f'exec {srun} {shlex.join(command)} run "${{run[@]}}"')
    return "\n".join(lines) + "\n"
