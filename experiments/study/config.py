"""A study's YAML as a typed thing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from experiments.configuration.build import build_section
from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.layers import read_layers, shown
from experiments.configuration.merge import merge
from experiments.configuration.nodes import Items, Mapping, Node, Scalar
from experiments.configuration.schema import Slot, slots
from experiments.locate import SHIPPED, find_shipped

Look = Literal["dev", "test"]
STUDIES = SHIPPED / "studies"
_SITES = ("sources", "dev", "test")
_NAME = re.compile(r"\w[\w.+-]*")
_SPECIAL = re.compile(r"[^\w./~ +-]")


@dataclass
class Method:
    """One row of the table: an experiment, altered by overrides alone.

    Attributes:
        experiment: a YAML file, beside the study or shipped, or the name of a shipped one.
        overrides: key=value each, as on the command line.
        longer: factor on trainer.max_steps, for a control that is given the time of another method.
        because: why that factor; due where it is not 1.
    """

    experiment: str
    overrides: list[str] = field(default_factory=list)
    longer: float = 1.0
    because: str = ""


@dataclass
class StudyConfig:
    """What a study's file says, but for the sites.

    Attributes:
        methods: by name, in the order of the table.
        about: what it is to show, a sentence or two for the head of the table.
        name: of the study; by default its file's.
        reference: the method that the others are compared with; by default the first.
        seeds: of the experiments.
        folds: of the source's split, each of which tests once.
        look: at which sites: dev, for choosing, or test, for the final look.
        overrides: of all methods; a method's own win over them.
    """

    methods: dict[str, Method] = field(default_factory=dict)
    about: str = ""
    name: str = ""
    reference: str = ""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    folds: list[int] = field(default_factory=lambda: [0])
    look: Look = "test"
    overrides: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        path: its file.
        config: what it says.
        sources: the sites that are trained on by name, each as ``{key: value, …}``; empty for each experiment's own.
        dev: the sites for choosing, likewise.
        test: the sites for the final look; empty for the experiments' own.
    """

    path: Path
    config: StudyConfig
    sources: dict[str, str]
    dev: dict[str, str]
    test: dict[str, str]

    @property
    def reference(self) -> str:
        """The method that the others are compared with."""
        return self.config.reference or next(iter(self.config.methods))


def find_study(name: str) -> Path:
    """The study that ``name`` means: a path, or else one that comes with Pansite.

    Raises:
        UsageError: there is none.
    """
    return find_shipped(name, "study", STUDIES.name)


def load_study(path: Path) -> Study:
    """Read a study's file and those that it extends.

    Raises:
        ConfigurationErrors: with every fault of the study's own keys.
    """
    faults = Faults()
    layers = read_layers(path, faults)
    root = Mapping({}, shown(path))
    for layer in layers:
        # Sites replace those that are inherited as a whole, as held-out sites of an experiment do.
        inherited = {key: node for key, node in root.entries.items() if key not in _SITES or key not in layer.entries}
        merged = merge(Mapping(inherited, root.where), _spelled_out(layer), Slot(StudyConfig))
        assert isinstance(merged, Mapping)
        root = merged
    sites = {key: _sites(root.entries.pop(key, None), key, faults) for key in _SITES}
    keys = [*slots(StudyConfig), *_SITES]
    for key, node in list(root.entries.items()):
        if key not in keys:
            faults.add(node.where, key, f"a study has no key {key!r}; {did_you_mean(key, keys)}")
            del root.entries[key]
    config: StudyConfig | None = build_section(Slot(StudyConfig), root, faults)
    if config is not None:
        config.name = config.name or path.stem
        _check(config, sites, root, faults)
    faults.raise_any()
    assert config is not None
    return Study(path, config, **sites)


def _spelled_out(layer: Mapping) -> Mapping:
    """A method may be the bare name of its experiment."""
    methods = layer.entries.get("methods")
    if not isinstance(methods, Mapping):
        return layer
    entries = {
        name: Mapping({"experiment": node}, node.where) if isinstance(node, Scalar) and not node.is_null else node
        for name, node in methods.entries.items()
    }
    return Mapping(layer.entries | {"methods": Mapping(entries, methods.where)}, layer.where)


def _sites(node: Node | None, key: str, faults: Faults) -> dict[str, str]:
    if node is None or (isinstance(node, Scalar) and node.is_null):
        return {}
    if not isinstance(node, Mapping):
        faults.add(node.where, key, "expects sites by name, such as 'hill: {layout: phantom, site: hill}'.")
        return {}
    for name, site in node.entries.items():
        if not isinstance(site, Mapping):
            faults.add(site.where, f"{key}.{name}", "expects a site, such as {layout: phantom, site: hill}.")
    return {name: _written(site) for name, site in node.entries.items()}


def _written(node: Node) -> str:
    """A node as YAML on one line; scalars stay the text that was written."""
    if isinstance(node, Mapping):
        return "{" + ", ".join(f"{_quoted(key)}: {_written(item)}" for key, item in node.entries.items()) + "}"
    if isinstance(node, Items):
        return f"[{', '.join(map(_written, node.nodes))}]"
    # In braces, what is a plain word elsewhere may need quotes; what is a number or null never does.
    return _quoted(node.text) if node.quoted or _SPECIAL.search(node.text) else node.text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _check(config: StudyConfig, sites: dict[str, dict[str, str]], root: Mapping, faults: Faults) -> None:
    def add(key: str, problem: str) -> None:
        node: Any = root
        for part in key.split("."):
            node = getattr(node, "entries", {}).get(part, node)
        faults.add(node.where, key, problem)

    if not config.methods and not faults:
        add("methods", "names no experiment; name one for each row of the table, as in 'gin: phantom_gin'.")
    for key, names in (("name", [config.name]), ("methods", config.methods), *sites.items()):
        for name in names:
            if not _NAME.fullmatch(name):
                add(
                    f"{key}.{name}" if key != "name" else key, f"has letters, digits, '_', '-', '+', '.', not {name!r}."
                )
    for name, method in config.methods.items():
        if method.longer <= 0:
            add(f"methods.{name}.longer", f"must be greater than 0, not {method.longer:g}.")
        elif method.longer != 1 and not method.because.strip():
            add(f"methods.{name}.because", f"is missing; say why {name} is trained {method.longer:g} times as long.")
    for key, numbers in (("seeds", config.seeds), ("folds", config.folds)):
        if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
            add(key, f"expects different whole numbers from 0 on, such as [0, 1, 2], not {numbers}.")
    if config.reference and config.reference not in config.methods:
        hint = did_you_mean(config.reference, config.methods)
        add("reference", f"there is no method {config.reference!r}; {hint}")
    if config.look == "dev" and not sites["dev"]:
        add("look", "is dev, and the study names no sites under 'dev'.")
    for name in sites["dev"]:
        if name in sites["test"] or name in sites["sources"]:
            add(f"dev.{name}", "is a site for choosing, so it can't be trained on or tested with as well.")
