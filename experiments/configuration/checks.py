"""What can be known to fail before any data is read: keys that are well typed, but not together."""

from __future__ import annotations

from itertools import chain

from experiments.config import ExperimentConfig
from experiments.configuration import rules_data, rules_model, rules_trainer
from experiments.configuration.faults import Faults
from experiments.configuration.problem import Problem
from experiments.configuration.ranges import out_of_range


def check(config: ExperimentConfig, places: dict[str, str], faults: Faults) -> None:
    """Find every problem that needs no data to be seen.

    Args:
        config: the experiment; where a key has a fault already, it holds the default.
        places: where each key was set.
        faults: takes up what is found, unless a key it hangs on has a fault already.
    """
    for key, sentence in [*out_of_range(config)]:
        _note(Problem((key,), sentence), places, faults)
    for rule in chain(rules_data.RULES, rules_model.RULES, rules_trainer.RULES):
        for problem in rule(config):
            _note(problem, places, faults)


def _note(problem: Problem, places: dict[str, str], faults: Faults) -> None:
    if not any(faults.touches(key) for key in problem.keys):
        key = next((key for key in problem.keys if key in places), problem.keys[0])
        faults.add(_place(key, places), problem.keys[0], problem.sentence)


def _place(key: str, places: dict[str, str]) -> str:
    while key and key not in places:
        key = key.rpartition(".")[0]
    return places[key] if key else "default"
