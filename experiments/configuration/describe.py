"""Every key of an experiment with its type, its default and what it means, read off the dataclasses."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from experiments.configuration.nodes import Mapping, to_text
from experiments.configuration.schema import Key, every_key
from experiments.configuration.values import expectation

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*)$")


@dataclass(frozen=True)
class Description:
    """One key as it is shown.

    Attributes:
        path: its dotted path; ``*`` stands for a name of one's own.
        components: the components that have the key; empty where all have it.
        kind: what it expects.
        default: its default as one would write it; empty where it has none.
        meaning: the sentence of its dataclass' docstring.
    """

    path: str
    components: tuple[str, ...]
    kind: str
    default: str
    meaning: str


def describe() -> list[Description]:
    """All keys, in the order of the schema; what components share is told once."""
    shared: dict[tuple[str, str, str, str], list[Key]] = {}
    for key in every_key():
        meaning = meanings(key.section).get(key.path.rpartition(".")[2], "")
        shared.setdefault((key.path, _kind(key), _default(key), meaning), []).append(key)
    return [
        Description(path, _components(keys), kind, default, meaning)
        for (path, kind, default, meaning), keys in shared.items()
    ]


def meanings(section: type[Any]) -> dict[str, str]:
    """What the docstrings of a dataclass and of those it builds on say of each attribute."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        lines = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Attributes:\n")[2].splitlines()
        name = ""
        for line in lines:
            if match := _ATTRIBUTE.match(line):
                name = match[1]
                found[name] = match[2]
            elif name and line.startswith(" " * 8):
                found[name] += f" {line.strip()}"
    return found


def _components(keys: list[Key]) -> tuple[str, ...]:
    registry = keys[0].owner.registry
    names = tuple(key.component for key in keys if key.component is not None)
    return () if registry is None or len(names) == len(registry.names()) else names


def _kind(key: Key) -> str:
    if key.chooses and key.owner.registry is not None:
        return f"one of {', '.join(key.owner.registry.names())}"
    return expectation(key.slot.kind)


def _default(key: Key) -> str:
    if key.chooses:
        return "" if key.owner.required else (key.owner.choice(Mapping(partial=True)) or "")
    return "" if key.slot.required else _written(key.slot.default())


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return to_text(value) if value != "" else "''"
