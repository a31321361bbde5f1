"""From an experiment's YAML and overrides to one typed, checked ``ExperimentConfig``; all faults are told at once.

The way a configuration takes, one file each: ``layers`` reads files and what they extend, ``overrides`` the
command line, ``merge`` lays them over each other, ``interpolation`` resolves ``${…}``, ``values`` and ``build``
turn text into typed dataclasses, ``checks`` looks for what can't work, ``load`` owns the whole.
"""

from experiments.configuration.load import Loaded, load_experiment

__all__ = ["Loaded", "load_experiment"]
