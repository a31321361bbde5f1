"""From an experiment's YAML and overrides to one typed, checked ``ExperimentConfig``; all faults are told at once.

The way a configuration takes, one file each: ``layers`` reads files and what they extend, ``overrides`` the
command line, ``merge`` lays them over each other, ``interpolation`` resolves ``${…}``, ``values`` and ``build``
turn text into typed dataclasses, ``checks`` looks for what can't work, ``load`` owns the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.configuration.load import Loaded, load_experiment

__all__ = ["Loaded", "load_experiment"]


def __getattr__(name: str) -> Any:
    # OmegaConf comes with them, and the help needs neither.
    if name in __all__:
        from experiments.configuration import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
