"""``pansite compare``: runs against one another, several runs of a method being its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import UsageError
from experiments.comparison import files, measured
from experiments.comparison.compute import compare
from experiments.comparison.measured import Evaluated
from experiments.comparison.pool import pools
from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.locate import find_runs
from experiments.run_folder import RunFolder
from experiments.study import settings as same


def compare_runs(runs: Sequence[str], named: Sequence[str], reference: str | None, output: Path | None) -> int:
    """Print how runs compare, and write it where that is asked for.

    Args:
        runs: run folders, or folders that hold runs; each is a run of the method that its experiment's name says.
        named: the same as ``name=RUN``.
        reference: the method that the others are compared with; None for the first.
        output: folder for the tables; None writes none.

    Raises:
        UsageError: runs that can't be compared.
    """
    given = [(None, run) for run in runs] + [(name, run) for name, _, run in (word.partition("=") for word in named)]
    if not given:
        raise UsageError("compare: give the runs, such as `pansite compare runs/phantom_supervised runs/phantom_gin`.")
    if runs and named and reference is None:
        raise UsageError("compare: say which method the others are compared with: --reference NAME.")
    found = [_read(folder, name) for name, word in given for folder in find_runs(word)]
    _refuse_unlike([config for _, config in found], [run for run, _ in found])
    evaluated = [run for run, _ in found]
    methods = list(dict.fromkeys(run.method for run in evaluated))
    title = f"Comparison of {len(evaluated)} run{'s' * (len(evaluated) > 1)}"
    notes = [f"{run.method}, seed {run.seed}: run {Path(run.where).name}." for run in evaluated]
    table = compare(pools(evaluated), reference or methods[0], title, notes=[" ".join(notes)])
    files.show(table)
    if output is not None:
        print("written:", *files.write(table, output, "comparison"))
    return 0


def _read(folder: Path, name: str | None) -> tuple[Evaluated, ExperimentConfig]:
    run = RunFolder.existing(folder)
    config = load_experiment(run.config).config
    summary = measured.summary_of_run(run)
    roles = {site: str(values["role"]) for site, values in summary["sites"].items() if values["n"]}
    rows = measured.scores(measured.rows_of_run(run), str(folder / "evaluation" / "per_case.csv"))
    evaluated = Evaluated(
        name or config.name, config.data.source.name, config.seed, config.data.split.fold, roles, rows,
        measured.validation(run.metrics), measured.protocol(summary), str(folder),
    )  # fmt: skip
    return evaluated, config


def _refuse_unlike(configs: Sequence[ExperimentConfig], runs: Sequence[Evaluated]) -> None:
    """Runs of a method differ in seed, source and fold alone.

    Raises:
        UsageError: they differ in something else.
    """
    first: dict[str, tuple[same.Settings, Evaluated]] = {}
    for config, run in zip(configs, runs, strict=True):
        settings = {key: value for key, value in same.of_training(same.settings(config)).items() if not _varies(key)}
        known, other = first.setdefault(run.method, (settings, run))
        if reason := same.altered(known, settings, {}):
            raise UsageError(
                f"{run.where} and {other.where} are no seeds of one method {run.method!r}: {reason}; give them names "
                f"of their own, as in other={run.where}."
            )


def _varies(key: str) -> bool:
    return key in ("seed", "data.split.fold") or key.startswith("data.source.")
