"""What a layer of configuration says, with the place where it says it.

Scalars stay the text that was written until the type of their key is known: YAML would read ``0123`` as 83 and
``1:30`` as 90, and a command line knows text only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

NULLS = frozenset({"", "~", "null", "Null", "NULL", "None"})


@dataclass(frozen=True)
class Scalar:
    """One value as written.

    Attributes:
        text: its characters, without quotes.
        where: ``experiments/a.yaml:12`` or ``override 'seed=3'``.
        quoted: it stood in quotes, so that ``"null"`` is a word.
    """

    text: str
    where: str
    quoted: bool = False

    @property
    def is_null(self) -> bool:
        """Whether this says null (or nothing at all)."""
        return not self.quoted and self.text in NULLS

    @property
    def interpolates(self) -> bool:
        """Whether this refers to another key or to the environment."""
        return "${" in self.text


@dataclass(frozen=True)
class Items:
    """A list."""

    nodes: tuple[Node, ...]
    where: str


@dataclass(frozen=True)
class Mapping:
    """Keys and what they hold.

    Attributes:
        entries: nodes by key.
        where: where the mapping begins.
        partial: it was named by a dotted override alone, so it changes some keys and never replaces the whole.
    """

    entries: dict[str, Node] = field(default_factory=dict)
    where: str = "default"
    partial: bool = False


Node: TypeAlias = Scalar | Items | Mapping


def to_text(value: Any) -> str:
    """A plain value as it would be written by hand."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def from_plain(value: Any, where: str) -> Node:
    """Nodes of plain containers, all of them said at ``where``."""
    if isinstance(value, dict):
        return Mapping({to_text(key): from_plain(item, where) for key, item in value.items()}, where)
    if isinstance(value, list | tuple):
        return Items(tuple(from_plain(item, where) for item in value), where)
    return Scalar(to_text(value), where, quoted=isinstance(value, str))
