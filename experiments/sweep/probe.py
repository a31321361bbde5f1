"""Whether an experiment bears the parameters of a sweep, asked before the first trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import ConfigurationErrors
from experiments.configuration import load_experiment
from experiments.configuration.faults import Faults
from experiments.identity import ALTERING, BY_CONTENT
from experiments.sweep.file import SweepFile
from experiments.sweep.parameters import Parameter

_MOST_PROBES = 40


def probe(sweep: SweepFile, experiment: Path, overrides: Sequence[str], faults: Faults) -> None:
    """Try every value that is listed and the ends of every range, each among the first values of the others.

    Args:
        sweep: with the parameters.
        experiment: the experiment's file.
        overrides: of all trials.
        faults: takes up what a key does not bear; what only certain combinations do not bear fails as a trial.
    """
    first = {parameter.key: parameter.probes()[0] for parameter in sweep.parameters}
    for parameter in sweep.parameters:
        for value in parameter.probes()[:_MOST_PROBES]:
            words = [override(key, value if key == parameter.key else other) for key, other in first.items()]
            try:
                load_experiment(experiment, [*overrides, *words])
            except ConfigurationErrors as errors:
                if problem := _own(errors, parameter, override(parameter.key, value)):
                    faults.add(parameter.where, parameter.key, problem)
                    break
        if not faults.touches(parameter.key) and not _alters(parameter.key):
            faults.add(
                parameter.where, parameter.key, "does not alter what is trained, so all its trials would be one run."
            )


def override(key: str, value: Any) -> str:
    """The word by which W&B's agent hands a value on."""
    return f"{key}={value}"


def _own(errors: ConfigurationErrors, parameter: Parameter, word: str) -> str | None:
    """What is said of this very parameter, without the place, which is the file's."""
    for fault in errors.faults:
        mark = f"override '{word}': "
        if fault.startswith(mark):
            key, _, problem = fault.removeprefix(mark).partition(": ")
            if key == parameter.key or key.startswith(f"{parameter.key}."):
                return problem
            if parameter.key.startswith(f"{key}."):
                return f"{key}: {problem}"
    return None


def _alters(key: str) -> bool:
    return any(
        key == known or key.startswith(f"{known}.") or known.startswith(f"{key}.") for known in ALTERING | BY_CONTENT
    )
