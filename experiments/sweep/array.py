"""``pansite submit --sweep``: an array of SLURM's, each task of which takes a trial."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from datamodules.atomic import write_json, write_text
from datamodules.errors import UsageError
from experiments import submit as submitting
from experiments.run_folder import JOB_FILE
from experiments.sbatch import cpus, options
from experiments.sweep.opened import Opened, open_sweep
from experiments.sweep.study import Study

_ARRAY = re.compile(r"(\d+)(%\d+)?")


def submit(name: str, array: str | None, overrides: Sequence[str], dry_run: bool, peeking: bool) -> int:
    """Submit a sweep.

    Args:
        name: the sweep's file, the name of a shipped one, or the folder of one that was begun.
        array: ``N%K``: N trials, at most K at a time.
        overrides: of all trials.
        dry_run: print the job file, and submit nothing.
        peeking: allow for a metric of held-out sites.

    Raises:
        UsageError: see :func:`~experiments.sweep.opened.open_sweep`, or ``sbatch`` is missing or refuses.
    """
    match = _ARRAY.fullmatch(array or "")
    if match is None or not int(match[1]):
        raise UsageError(f"--array: write N%K for N trials, at most K at a time, as in 20%4, not {array!r}.")
    trials, limit = int(match[1]), match[2] or ""
    opened = open_sweep(name, overrides, peeking)
    study = Study(opened.folder, opened.plan, opened.base.config.seed)
    config = opened.base.config
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = submitting.free(Path(config.run.root) / submitting.FOLDER / f"{stamp}-{opened.plan.name}")
    words = ["pansite", "submit", "--sweep", name, "--array", f"{trials}{limit}", *overrides]
    endless = opened.plan.run_cap is None and study.size is None
    cap = len(study.shown()) + trials if endless else opened.cap(None, study.size)
    script = _render(opened, f"0-{trials - 1}{limit}", shlex.join(words), folder, cap)
    if dry_run:
        print(f"would become {folder / submitting.SCRIPT}:", file=sys.stderr)
        print(script, end="")
        return 0
    write_text(folder / submitting.SCRIPT, script)
    number = submitting.sbatch(folder / submitting.SCRIPT)
    tasks = [{"name": config.name, "seed": config.seed}] * trials
    write_json(folder / submitting.RECORD, {"job": number, "time": time.time(), "tasks": tasks})
    print(f"job {number}, an array of {trials} tasks, each of which takes a trial: {folder / submitting.SCRIPT}")
    print(f"afterwards: pansite sweep {opened.folder}")
    return 0


def _render(opened: Opened, array: str, written_by: str, folder: Path, trials: int) -> str:
    """The job file: the first process of a task asks for a trial before the ranks start, and once."""
    config = opened.base.config
    command = submitting.command()
    ask = shlex.join([*command, "sweep", str(opened.folder), "--next", "--trials", str(trials)])
    lines = [
        "#!/bin/bash",
        f"# Written by: {' '.join(written_by.splitlines())}",
        *(
            f"#SBATCH {option}"
            for option in (
                f"--job-name={opened.plan.name}",
                f"--array={array}",
                *options(config),
                f"--output={folder / opened.plan.name}.%A_%a.log",
                f"--chdir={Path.cwd()}",
            )
        ),
        "set -euo pipefail",
        "export PYTHONUNBUFFERED=1  # the log shows what is said when it is said",
        f"export {JOB_FILE}={shlex.quote(str(folder / submitting.SCRIPT))}  # a copy of it goes into the run's folder",
        *config.cluster.chosen().setup,
        "",
        "# A trial: this task's own where it was preempted, else one whose process has died, else a new one.",
        f"taken=$({ask})",
        'eval "$taken"',
        'if [ "${#run[@]}" -eq 0 ]; then echo "no trial is left to take"; exit 0; fi',
        'echo "trial ${PANSITE_TRIAL##*#}: ${run[*]}"',
        f'exec srun --kill-on-bad-exit=1 --cpus-per-task={cpus(config)} {shlex.join(command)} "${{run[@]}}"',
    ]
    return "\n".join(lines) + "\n"
