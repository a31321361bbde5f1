"""What a sweep has found: a table, the best trial as a command and as an experiment, and a page with pictures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datamodules.atomic import write_text
from experiments.configuration import load_experiment
from experiments.configuration.writing import to_yaml
from experiments.locate import SHIPPED
from experiments.sweep import children
from experiments.sweep.opened import Opened, find_begun, reopen
from experiments.sweep.page import render
from experiments.sweep.study import Shown, Study
from experiments.sweep.words import BEST, PEEKED, said, short_names
from experiments.terminal import terminal

PAGE = "report.html"


def show(name: str, overrides: Sequence[str]) -> int:
    """``pansite sweep FILE --show``: the table of trials, the best so far, and the page."""
    opened = reopen(find_begun(name, overrides))
    study = Study(opened.folder, opened.plan, opened.base.config.seed)
    _show(opened, study)
    return 0


def conclude(opened: Opened, study: Study) -> int:
    """What comes after the last trial: the best one alone is evaluated on held-out sites."""
    trials = study.shown()
    unfinished = [trial for trial in trials if trial.state in ("running", "waiting")]
    _show(opened, study)
    best = study.best()
    if unfinished:
        print(f"{len(unfinished)} trials are not finished; the best is evaluated once all are: the same command then.")
    elif best is not None and best.folder is not None and not opened.plan.metric.peeks:
        print(f"trial {best.number} is the best and the only one to be evaluated on held-out sites:", flush=True)
        _evaluate(opened, best.folder)
    return 0


def _evaluate(opened: Opened, run: Path) -> None:
    trainer = opened.base.config.trainer
    if trainer.devices * trainer.nodes == 1:
        from experiments import flow

        flow.evaluate(run, [])
    else:  # ranks are started by giving the same command once more, which is to be that of the evaluation
        children.run(["evaluate", str(run)], [{}])


def _show(opened: Opened, study: Study) -> None:
    trials, best = study.shown(), study.best()
    _print_table(opened, trials)
    if opened.peeking:
        print(PEEKED.format(metric=opened.plan.metric.name))
    words = "" if best is None else command(opened, best)
    if best is not None:
        write_text(opened.folder / BEST, best_yaml(opened, best))
        print(f"best so far: trial {best.number}, {opened.plan.metric.name} {best.value:.4f}")
        print(f"  {words}\n  {opened.folder / BEST}")
    write_text(opened.folder / PAGE, render(opened, study, trials, best, words))
    print(f"pictures: {opened.folder / PAGE}")


def command(opened: Opened, trial: Shown) -> str:
    """The command that trains a trial and evaluates it; where it is trained already, it goes on with the evaluation."""
    words = [f"{key}={value}" for key, value in trial.values.items()]
    return shlex.join(["pansite", "run", opened.plan.experiment, *opened.overrides, *words])


def best_yaml(opened: Opened, trial: Shown) -> str:
    """An experiment that extends the sweep's own by what the trial has drawn."""
    words = [f"{key}={value}" for key, value in trial.values.items()]
    loaded = load_experiment(opened.experiment, [*opened.overrides, *words])
    base = opened.experiment
    extended = str(base.relative_to(SHIPPED)) if base.is_relative_to(SHIPPED) else str(base)
    content: dict[str, Any] = {}
    for word in loaded.overrides:
        *path, last = word.partition("=")[0].split(".")
        place, value = content, loaded.resolved
        for part in path:
            place, value = place.setdefault(part, {}), value[part]
        place[last] = value[last]
    metric = opened.plan.metric
    head = f"# The best trial of the sweep {opened.plan.name}: trial {trial.number}, {metric.name} {trial.value:.4f}.\n"
    return head + to_yaml({"extends": extended, **content})


def _print_table(opened: Opened, trials: Sequence[Shown]) -> None:
    table = Table(title=f"{opened.plan.name}: {opened.folder}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    keys = [parameter.key for parameter in opened.plan.parameters]
    short = short_names(keys)
    for column in ("trial", "state", *short, opened.plan.metric.name, "run"):
        table.add_column(column, justify="left" if column in ("state", "run") else "right", overflow="fold")
    for trial in trials:
        state = f"failed: {trial.reason}" if trial.state == "failed" else trial.state
        table.add_row(
            str(trial.number),
            state,
            *(said(trial.values.get(key)) for key in keys),
            "–" if trial.value is None else f"{trial.value:.4f}",
            "–" if trial.folder is None else _relative(trial.folder),
        )
    terminal().print(table)


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
