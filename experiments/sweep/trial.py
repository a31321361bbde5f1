"""One trial, which is one ``pansite fit``: in this process, or in others that the environment names it to."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.trial import TrialState

from callbacks.metrics_file import read_metrics
from callbacks.requests import Request, Stopped
from datamodules.errors import UsageError
from experiments import flow, wandb_run
from experiments.configuration import Loaded, load_experiment
from experiments.console import first_rank, say
from experiments.ending import job_id
from experiments.run_folder import RunFolder
from experiments.sweep.metric import VALIDATION, Metric
from experiments.sweep.opened import Opened, reopen
from experiments.sweep.study import Study, Taken
from experiments.sweep.watching import Pruned, Watch, watched

TRIAL = "PANSITE_TRIAL"
"""Names, for a process that trains a trial, the sweep's folder and the trial's number: ``folder#number``."""

_TWIN_SECONDS = 3.0


class TrialError(Exception):
    """A trial has failed, and is told as failed; others may do better."""


def fit(loaded: Loaded, fresh: bool = False, inexact: bool = False) -> int:
    """``pansite fit`` or ``pansite run`` of a process that :data:`TRIAL` names a trial to."""
    folder, _, number = os.environ[TRIAL].rpartition("#")
    opened = reopen(Path(folder))
    if not first_rank():
        with watched(Watch(judge=lambda *_: False, begun=lambda _: None)):
            _train(opened, loaded)
        return 0
    study = Study(opened.folder, opened.plan, opened.base.config.seed)
    taken = study.taken(int(number))
    if taken is None:
        say(f"trial {number} of {opened.folder} is finished already")
        return 0
    try:
        train(opened, study, taken, loaded)
    except TrialError as error:
        raise UsageError(f"trial {number} has failed: {error}") from error
    return 0


def train(opened: Opened, study: Study, taken: Taken, loaded: Loaded | None = None) -> None:
    """Train a trial in this process and tell the study what has come of it.

    Args:
        opened: the sweep.
        study: its trials.
        taken: the trial.
        loaded: its experiment, where that is known already.

    Raises:
        TrialError: it has failed; the study knows.
        Stopped: a signal has ended it; it is left to whoever comes, a requeued job's to that job.
        UsageError: it was begun under other conditions than here; it is left likewise.
        LostRankError: another rank is gone; it is left to whoever comes.
    """
    number = taken.number
    watch = Watch(
        judge=lambda validation, value: study.plan.early is not None and study.judge(number, validation, value),
        begun=lambda folder: study.note_folder(number, folder),
    )
    with study.leases.kept(number), _left_in_order(study, number), watched(watch):
        while study.twin_is_running(number):
            time.sleep(_TWIN_SECONDS)
        try:
            loaded = loaded or load_experiment(opened.experiment, [*opened.overrides, *taken.words])
            folder = _train(opened, loaded)
        except Pruned as pruned:
            value = _value_so_far(study, number)
            study.tell(number, value, TrialState.PRUNED)
            say(f"trial {number}: ended after step {pruned.step}, others do better")
            return
        except (UsageError, RuntimeError) as error:
            if "--inexact" in str(error):
                # It can't be continued under these conditions, as with other threads: no fault of the trial's.
                raise
            if not isinstance(error, UsageError):
                traceback.print_exc()
            lines = str(error).strip().splitlines()
            reason = lines[0] if lines else type(error).__name__
            study.tell(number, None, TrialState.FAIL, reason)
            raise TrialError(reason) from error
        study.note_folder(number, folder.path)
        value = measured(opened.plan.metric, folder)
        if value is None:
            study.tell(number, None, TrialState.FAIL, f"{opened.plan.metric.name} was never measured")
            raise TrialError(f"{opened.plan.metric.name} was never measured")
        study.tell(number, value, TrialState.COMPLETE)
        say(f"trial {number}: {opened.plan.metric.name} {value:.4f}")


def measured(metric: Metric, folder: RunFolder) -> float | None:
    """What a run is worth: the best that a validation has measured, which is what ``best.ckpt`` is of.

    Args:
        metric: of the sweep.
        folder: of the run.

    Returns:
        the value; None where there is none.
    """
    if metric.peeks:
        return _summarised(metric.name, folder)
    if not folder.metrics.is_file():
        return None
    values = [row[VALIDATION] for row in read_metrics(folder.metrics) if VALIDATION in row]
    return max(values, default=None)


def _summarised(name: str, folder: RunFolder) -> float | None:
    """A number of the evaluation by the name that it has in W&B: ``evaluation/held_out_macro/dice``."""
    summary = json.loads((folder.evaluation / "summary.json").read_text("utf-8"))
    _, place, metric = name.split("/", 2)
    found = summary.get(place) if place in ("held_out_macro", "gap") else summary["sites"].get(place)
    value = (found or {}).get(metric)
    value = value.get("mean") if isinstance(value, dict) else value
    return None if value is None else float(value)


def _train(opened: Opened, loaded: Loaded) -> RunFolder:
    folder = flow.fitted(loaded)
    if opened.plan.verb == "run":
        flow.evaluate(folder.path, [])
    return folder


def _value_so_far(study: Study, number: int) -> float | None:
    """What a trial that was ended has reached; closes its run in W&B."""
    (trial,) = (trial for trial in study.shown() if trial.number == number)
    if trial.folder is None:
        return None
    folder = RunFolder(trial.folder)
    wandb_run.finish(folder)
    return measured(study.plan.metric, folder)


@contextmanager
def _left_in_order(study: Study, number: int) -> Iterator[None]:
    """Leave the trial where this process ends before it: to a job that comes back, or to anybody."""
    try:
        yield
    except Stopped as stopped:
        if stopped.request is Request.PREEMPT and job_id() is not None:
            study.leases.take(number, "preempted")
        else:
            study.leases.give_back(number)
        raise
    except TrialError:
        raise
    except BaseException:
        study.leases.give_back(number)
        raise
