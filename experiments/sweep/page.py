"""The page of a sweep, one file without any outside reference, in the hand of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.pages import render as pages
from experiments.sweep import figures
from experiments.sweep.opened import Opened
from experiments.sweep.plain import is_number
from experiments.sweep.study import Shown, Study
from experiments.sweep.words import BEST, PEEKED, said, short_names

_MOST_AXES = 9


def render(opened: Opened, study: Study, trials: Sequence[Shown], best: Shown | None, command: str) -> str:
    """The page as HTML.

    Args:
        opened: the sweep.
        study: its trials, for how much each parameter matters.
        trials: the same, as they are shown.
        best: the best finished one.
        command: that trains and evaluates it.
    """
    keys = [parameter.key for parameter in opened.plan.parameters]
    names = dict(zip(keys, short_names(keys), strict=True))
    metric = opened.plan.metric
    valued = [trial for trial in trials if trial.value is not None and trial.state in ("done", "pruned")]
    varied = [key for key in keys if len({str(trial.values[key]) for trial in valued}) > 1][:_MOST_AXES]
    importances = study.importances()
    states = [trial.state for trial in trials]
    return pages.render(
        Path(__file__).with_name("page.html"),
        filters={"said": said},
        contents=[*([("pictures", "Pictures")] if valued else []), ("trials", "Every trial"), ("search", "The search")],
        opened=opened,
        trials=trials,
        best=best,
        best_file=BEST,
        command=command,
        keys=keys,
        numeric={key for key in keys if all(is_number(trial.values[key]) for trial in trials)},
        names=names,
        metric=metric,
        mapping=study.mapping(),
        counts={state: states.count(state) for state in ("done", "pruned", "failed", "running", "waiting")},
        peeked=PEEKED.format(metric=metric.name) if opened.peeking else "",
        history=figures.history(trials, metric.name, metric.maximize) if valued else "",
        parallel=figures.parallel(valued, varied, [names[key] for key in varied], metric.name, best)
        if best is not None and varied
        else "",
        importance=figures.importance(importances, names) if importances else "",
    )
