"""``pansite sweep``: trials one after the other in this warm process, or in several side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import UsageError
from experiments.config import TrainerConfig
from experiments.machine import VISIBLE, shares
from experiments.sweep import children
from experiments.sweep.opened import Opened, open_sweep, reopen
from experiments.sweep.study import Study, Taken

WORKER = "PANSITE_SWEEP_WORKER"
"""Set for a process that ``--jobs`` has started: it takes trials, and leaves what comes after to who started it."""
_FAILURES_IN_A_ROW = 3


def sweep(
    name: str,
    overrides: Sequence[str],
    jobs: int = 1,
    trials: int | None = None,
    repair: bool = False,
    peeking: bool = False,
) -> int:
    """Search until there is nothing left to try, then evaluate the best trial alone and write the report.

    Args:
        name: the sweep's file, the name of a shipped one, or the folder of one that was begun.
        overrides: of all trials.
        jobs: trials side by side.
        trials: most trials of all.
        repair: begin no new trial, only finish those whose process has died.
        peeking: allow for a metric of held-out sites.

    Raises:
        UsageError: see :func:`~experiments.sweep.opened.open_sweep`; or trial after trial fails.
        Stopped: a signal has come; the same command goes on.
    """
    opened = open_sweep(name, overrides, peeking)
    study = Study(opened.folder, opened.plan, opened.base.config.seed)
    cap = 0 if repair else opened.cap(trials, study.size)
    if WORKER not in os.environ:
        for line in (f"sweep {opened.plan.name}: {opened.folder}", *study.mapping()):
            print(line, flush=True)
    if jobs == 1:
        _work(opened, study, cap)
    else:
        _work_side_by_side(opened, cap, jobs)
    if WORKER in os.environ:
        return 0
    from experiments.sweep.show import conclude

    return conclude(opened, study)


def take(folder: Path, trials: int | None) -> int:
    """Take a trial for the ranks that this job is about to start, and print shell that names it to them."""
    import shlex

    from experiments.sweep.trial import TRIAL

    opened = reopen(folder)
    study = Study(opened.folder, opened.plan, opened.base.config.seed)
    taken = study.take(opened.cap(trials, study.size), "asked")
    if taken is None:
        print("run=()")
        return 0
    words = [opened.plan.verb, *_words(opened, taken)]
    print(f"export {TRIAL}={shlex.quote(f'{opened.folder}#{taken.number}')}; run=({shlex.join(words)})")
    return 0


def _work(opened: Opened, study: Study, cap: int) -> None:
    failed = 0
    while (taken := study.take(cap)) is not None:
        print(f"trial {taken.number}{' again' if taken.again else ''}: {' '.join(taken.words)}", flush=True)
        reason = _trained(opened, study, taken)
        failed = 0 if reason is None else failed + 1
        if reason is not None:
            print(f"trial {taken.number} has failed: {reason}", file=sys.stderr, flush=True)
        if failed >= _FAILURES_IN_A_ROW:
            raise UsageError(
                f"{opened.folder}: {failed} trials in a row have failed, the last one because: {reason} "
                "Mend that and give the sweep another name."
            )


def _trained(opened: Opened, study: Study, taken: Taken) -> str | None:
    """Train a trial; the reason where it has failed."""
    from experiments.sweep.trial import TRIAL, TrialError, train

    trainer = opened.base.config.trainer
    if trainer.devices * trainer.nodes == 1:
        try:
            train(opened, study, taken)
        except TrialError as error:
            return str(error)
        finally:
            _free_memory()
        return None
    # Ranks are started by giving the same command once more: it must not be the one that asks for a trial.
    with study.leases.kept(taken.number):
        words = [opened.plan.verb, *_words(opened, taken)]
        (code,) = children.run(words, [{TRIAL: f"{opened.folder}#{taken.number}"}])
    told = study.taken(taken.number) is None
    return None if code == 0 and told else f"its processes have ended with exit code {code}."


def _words(opened: Opened, taken: Taken) -> list[str]:
    return [str(opened.experiment), *opened.overrides, *taken.words]


def _work_side_by_side(opened: Opened, cap: int, jobs: int) -> None:
    words = ["sweep", str(opened.folder), "--trials", str(cap)] if cap else ["sweep", str(opened.folder), "--repair"]
    environments = [
        {WORKER: str(number), **own} for number, own in enumerate(_places(opened.base.config.trainer, jobs))
    ]
    # A process that was killed leaves a trial behind, which the one in its place takes up.
    codes = children.run(words, environments, again=lambda code: code < 0)
    if bad := [code for code in codes if code]:
        raise UsageError(f"{opened.folder}: a process has ended with exit code {bad[0]}; what it said stands above.")


def _places(trainer: TrainerConfig, jobs: int) -> list[dict[str, str]]:
    """What each of several processes finds in its environment: GPUs of its own, else its share of the cores."""
    return [
        {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share.threads))}
        if share.gpus is None
        else {VISIBLE: share.gpus}
        for share in shares(trainer, jobs)
    ]


def _free_memory() -> None:
    """Let the next trial of this process have what this one had."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
