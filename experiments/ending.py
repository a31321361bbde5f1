"""How a command leaves that a signal has ended: what is said, the exit code, and the way back into the queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from callbacks.requests import Request, Stopped
from experiments import launch

TRY_AGAIN = 75
"""Exit code of a run that was preempted and is to go on: EX_TEMPFAIL of sysexits.h, whether it was requeued or not."""


def leave(stopped: Stopped) -> int:
    """Say what has become of the work, requeue a preempted job of SLURM's, and tell the exit code.

    The first rank answers for ranks that have stopped together: the others leave with 0, lest whoever started them
    took them for crashed.
    """
    if stopped.agreed and not launch.first():
        # A requeue by the first rank is not to end this one with a complaint.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return 0
    where = "" if stopped.step is None else f" after step {stopped.step}"
    request = stopped.request
    if request is Request.TERMINATE and _preempted_by_slurm():
        request = Request.PREEMPT
    if request is Request.PREEMPT:
        job = job_id() if launch.first() else None
        if job is None:
            _tell(f"preempted{where}; give the same command again to go on")
        else:
            _requeue(job, where)
        return TRY_AGAIN
    if request is Request.INTERRUPT:
        _tell(f"stopped{where}; the same command goes on\ninterrupted")
        return 128 + signal.SIGINT
    _tell(f"stopped{where} by SIGTERM; the same command goes on")
    return 128 + signal.SIGTERM


def job_id() -> str | None:
    """The SLURM job that this process belongs to, ``<array>_<task>`` in an array; None outside of a job."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID")


def _requeue(job: str, where: str) -> None:
    # SLURM ends what is left of the job when it puts it back.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    reason = _scontrol("requeue", job)
    if reason is None:
        _tell(f"preempted{where}; job {job} is back in the queue and goes on from there")
    else:
        _tell(f"preempted{where}; job {job} could not be requeued ({reason}); give the same command again to go on")


def _scontrol(*words: str) -> str | None:
    """Run ``scontrol``; None where it succeeds, else the reason why not."""
    try:
        done = subprocess.run(["scontrol", *words], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).strip().splitlines()
    return said[0] if said else f"scontrol left with {done.returncode}"


def _preempted_by_slurm() -> bool:
    """Whether SIGTERM came for a job of higher priority: where a cluster sends no other signal, it tells by this."""
    job = job_id()
    if job is None:
        return False
    try:
        done = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    shown = dict(word.partition("=")[::2] for word in done.stdout.split())
    # A job that was preempted once may have been cancelled now.
    return shown.get("JobState") == "RUNNING" and shown.get("PreemptTime", "None") not in ("None", "N/A", "Unknown")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
