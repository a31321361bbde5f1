"""The one way from an experiment file and overrides to a typed configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.config import ExperimentConfig
from experiments.configuration.build import build, places
from experiments.configuration.checks import check
from experiments.configuration.faults import Faults
from experiments.configuration.interpolation import resolve
from experiments.configuration.layers import read_layers
from experiments.configuration.merge import merge
from experiments.configuration.nodes import Mapping, Node
from experiments.configuration.overrides import override_layer, split_overrides
from experiments.configuration.schema import ROOT, slots
from experiments.configuration.writing import to_yaml


@dataclass(frozen=True)
class Loaded:
    """An experiment, ready to run.

    Attributes:
        config: the typed tree.
        resolved: the same as plain containers.
        overrides: the overrides that were given, as ``key=value``.
    """

    config: ExperimentConfig
    resolved: dict[str, Any]
    overrides: list[str]

    @cached_property
    def yaml(self) -> str:
        """The same as a YAML file that loads to an equal configuration, from any folder."""
        return to_yaml(self.resolved)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read, merge, resolve and check an experiment.

    Args:
        path: its YAML file, or the ``config.yaml`` of a run.
        overrides: ``k=v``, ``--k=v``, ``--k`` followed by ``v``, or ``++k=v``; each is parsed by its key's type.

    Raises:
        ConfigurationErrors: with every fault there is, each naming the key and the file and line, or the override.
    """
    faults = Faults()
    layers = read_layers(path, faults)
    faults.incomplete = bool(faults)
    given = split_overrides(overrides, faults)
    root: Node = Mapping({}, layers[-1].where if layers else str(path))
    for layer in [*layers, override_layer(given)]:
        root = merge(root, layer, ROOT)
    assert isinstance(root, Mapping)
    root = resolve(root, faults)
    config = build(root, faults)
    if config is not None:
        _name_sites(config)
        _make_absolute(config)
        check(config, places(root), faults)
    faults.raise_any()
    assert config is not None
    return Loaded(config, _plain(config), [str(override) for override in given])


def _name_sites(config: ExperimentConfig) -> None:
    """A held-out site is called by its key, a source without a name by its layout."""
    config.data.source.name = config.data.source.name or config.data.source.layout
    for key, site in config.data.held_out.items():
        site.name = site.name or key


def _make_absolute(section: Any) -> None:
    """Give every path from the root: a run's own ``config.yaml`` has to mean the same from any folder."""
    for key, slot in slots(type(section)).items():
        value = getattr(section, key)
        if is_dataclass(value):
            _make_absolute(value)
        elif slot.is_table and slot.item.is_section:
            for item in value.values():
                _make_absolute(item)
        elif slot.path and value:
            setattr(section, key, os.path.abspath(Path(value).expanduser()))  # noqa: PTH100 - links stay as given


def _plain(value: Any) -> Any:
    """``value`` as plain containers, sections and tables as dictionaries."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value
