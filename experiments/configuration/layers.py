"""YAML files as layers of nodes with line numbers, each after those it extends."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.nodes import Items, Mapping, Node, Scalar

SHIPPED = Path(__file__).parents[1]
"""What an experiment extends is looked for beside it, then among the experiments that come with Pansite."""
_STANDARD_TAGS = "tag:yaml.org,2002:"
_TAGS = frozenset({"null", "bool", "int", "float", "str", "seq", "map", "merge", "timestamp", "value"})
_MERGE_TAG = f"{_STANDARD_TAGS}merge"


def read_layers(path: Path, faults: Faults) -> list[Mapping]:
    """The layers of an experiment file, those it extends first: later ones win.

    Args:
        path: the file.
        faults: takes up missing files, cycles, broken YAML and doubled keys.
    """
    return _layers(path, [], faults)


def shown(path: Path) -> str:
    """A file's name as messages say it: relative to the working folder where it lies below."""
    full = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links, away from the name that was given
    folder = Path.cwd()
    return str(full.relative_to(folder)) if full.is_relative_to(folder) else str(full)


def read_yaml(path: Path, faults: Faults) -> Node | None:
    """Nodes of a YAML file; None, with a fault, where it can't be read or is not YAML."""
    label = shown(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        faults.add(label, "", "not a text file in UTF-8.")
    except OSError as error:
        faults.add(label, "", f"can't be read: {error.strerror}.")
    else:
        return parse_yaml(text, label, faults)
    return None


def parse_yaml(text: str, label: str, faults: Faults, *, lines: bool = True) -> Node | None:
    """Nodes of a YAML text; None, with a fault, where it is not YAML.

    Args:
        text: the YAML.
        label: the file's name, or an override, as messages say it.
        faults: takes up what is wrong.
        lines: tell the line too.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{label}:{mark.line + 1}" if mark and lines else label
        faults.add(place, "", f"not valid YAML: {error.problem or error.context}.")
        return None
    except yaml.YAMLError as error:
        faults.add(label, "", f"not valid YAML: {str(error).splitlines()[0]}.")
        return None
    return _Converter(label, faults, lines).node(root) if root is not None else Mapping({}, label)


def _layers(path: Path, chain: list[Path], faults: Faults) -> list[Mapping]:
    chain = [*chain, path.resolve()]
    root = read_yaml(path, faults)
    if root is None:
        return []
    if not isinstance(root, Mapping):
        faults.add(shown(path), "", "an experiment is a mapping of keys such as 'name:' and 'data:'.")
        return []
    extends = root.entries.pop("extends", None)
    below = [] if extends is None else _extended(extends, path, chain, faults)
    return [*below, root]


def _extended(extends: Node, path: Path, chain: list[Path], faults: Faults) -> list[Mapping]:
    layers: list[Mapping] = []
    for node in extends.nodes if isinstance(extends, Items) else (extends,):
        if not isinstance(node, Scalar):
            faults.add(node.where, "extends", "expects a path or a list of paths.")
            continue
        if node.is_null:
            continue
        base = path.parent / Path(node.text).expanduser()
        if not base.is_file() and (SHIPPED / node.text).is_file():
            base = SHIPPED / node.text
        if base.resolve() in chain:
            start = chain.index(base.resolve())
            circle = " → ".join(shown(link) for link in [*chain[start:], base.resolve()])
            faults.add(node.where, "extends", f"goes in a circle: {circle}.")
        elif not base.is_file():
            near = sorted(file.name for file in base.parent.glob("*.y*ml")) if base.parent.is_dir() else []
            hint = f" {did_you_mean(base.name, near).capitalize()}" if near else ""
            faults.add(node.where, "extends", f"there is no file {node.text!r} (looked at {base}).{hint}")
        else:
            layers += _layers(base, chain, faults)
    return layers


class _Converter:
    """Turns PyYAML's nodes into ours."""

    def __init__(self, label: str, faults: Faults, lines: bool) -> None:
        self._label = label
        self._faults = faults
        self._lines = lines
        self._open: set[int] = set()

    def node(self, source: yaml.Node, where: str | None = None) -> Node:
        where = where or self._where(source)
        if source.tag.removeprefix(_STANDARD_TAGS) not in _TAGS:
            self._faults.add(where, "", f"the YAML tag {source.tag!r} has no meaning here; leave it out.")
        if isinstance(source, yaml.ScalarNode):
            return Scalar(source.value, where, quoted=source.style is not None)
        if id(source) in self._open:
            self._faults.add(where, "", "a YAML alias that contains itself.")
            return Mapping({}, where)
        self._open.add(id(source))
        try:
            if isinstance(source, yaml.SequenceNode):
                return Items(tuple(self.node(item) for item in source.value), where)
            assert isinstance(source, yaml.MappingNode)
            return Mapping(self._entries(source), where)
        finally:
            self._open.discard(id(source))

    def _entries(self, source: yaml.MappingNode) -> dict[str, Node]:
        merged: dict[str, Node] = {}
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key, value in source.value:
            where = self._where(key)
            if key.tag == _MERGE_TAG:
                merged = {**self._merge_key(value, where), **merged}
            elif not isinstance(key, yaml.ScalarNode):
                self._faults.add(where, "", "a key must be one word.")
            elif key.value in entries:
                self._faults.add(
                    where, "", f"{key.value!r} stands here a second time (first in line {lines[key.value]})."
                )
            else:
                lines[key.value] = key.start_mark.line + 1
                entries[key.value] = self.node(value, where)
        return {**merged, **entries}

    def _merge_key(self, value: yaml.Node, where: str) -> dict[str, Node]:
        merged: dict[str, Node] = {}
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            node = self.node(source)
            if isinstance(node, Mapping):
                merged = {**node.entries, **merged}
            else:
                self._faults.add(where, "", "'<<' expects a mapping.")
        return merged

    def _where(self, source: yaml.Node) -> str:
        return f"{self._label}:{source.start_mark.line + 1}" if self._lines else self._label
