"""The cases that a run of an experiment trains on and is evaluated on, found without one."""

from __future__ import annotations

from datamodules.held_out import HeldOutDataModule
from datamodules.single_source import SingleSourceDataModule
from experiments.config import ExperimentConfig
from experiments.console import say
from experiments.signals import SIGNALS


def evaluated_cases(config: ExperimentConfig) -> tuple[SingleSourceDataModule, HeldOutDataModule]:
    """Prepare every site of an experiment as a run does.

    Returns:
        The source with its split, and the cases of its test split and of the held-out sites.

    Raises:
        UsageError: a site keeps no case, or what else a run would be refused for.
    """
    # It may take hours, and what is prepared stays: a scheduler's notice need not wait for its end.
    with SIGNALS.at_once():
        source = SingleSourceDataModule(config.data.training(), config.seed)
        source.prepare_data()
        source.setup()
        tested = HeldOutDataModule(config.data, source.split, source.spacing)
        tested.prepare_data()
        tested.setup()
    return source, tested


def tell_excluded(tested: HeldOutDataModule) -> None:
    """Say which cases are left out, and why."""
    for site, cases in tested.excluded.items():
        for case, reason in cases.items():
            say(f"  {site}/{case} is left out: {reason}")
