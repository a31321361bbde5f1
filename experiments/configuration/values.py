"""Text into typed values, by the type of the key it stands for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from experiments.configuration.merge import written_out
from experiments.configuration.nodes import Items, Mapping, Node, Scalar, to_text

_TRUE = frozenset({"true", "yes", "on", "y", "1"})
_FALSE = frozenset({"false", "no", "off", "n", "0"})
_WHOLE = re.compile(r"[+-]?\d+(_\d+)*")
_WORDS = {int: "whole number", float: "number", str: "word", bool: "truth value"}


class Misfit(Exception):
    """A value that is not what its key expects.

    Attributes:
        where: where the value stands.
        expected: what the key expects, in words.
        found: what stands there, in words.
    """

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(f"expects {expected}, not {found}")
        self.where = where
        self.expected = expected
        self.found = found


def read_value(kind: Any, node: Node) -> Any:
    """The value that ``node`` means where ``kind`` is expected.

    Args:
        kind: ``int``, ``float``, ``bool``, ``str``, a ``Literal``, one of these or None, a tuple, list or dict.
        node: what was written.

    Raises:
        Misfit: it means nothing of that kind.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if isinstance(node, Scalar) and node.is_null:
            return None
        (kind,) = (argument for argument in arguments if argument is not NoneType)
        try:
            return read_value(kind, node)
        except Misfit as misfit:
            raise Misfit(misfit.where, f"{misfit.expected} or null", misfit.found) from None
    if origin in (tuple, list):
        return _read_items(kind, node)
    if origin is dict:
        return _read_table(kind, node)
    if not isinstance(node, Scalar):
        raise Misfit(node.where, expectation(kind), said(node))
    if node.is_null and not (_is_choice(kind, node.text) or (kind is str and not node.text)):
        raise Misfit(node.where, expectation(kind), "nothing" if not node.text else node.text)
    if origin is Literal:
        return _read_choice(kind, node)
    try:
        return _READERS[kind](node.text)
    except ValueError:
        raise Misfit(node.where, expectation(kind), said(node)) from None


def expectation(kind: Any) -> str:
    """What a kind is called in a sentence after "expects"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join([*(expectation(part) for part in arguments if part is not NoneType), "null"])
    if origin is Literal:
        return f"one of {', '.join(to_text(choice) for choice in arguments)}"
    if origin is tuple and arguments[-1] is not ...:
        return f"a list of {len(arguments)} {_plural(arguments[0])}"
    if origin in (tuple, list):
        return f"a list of {_plural(arguments[0])}"
    if origin is dict:
        return f"names, each with {_one(arguments[1])}"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]


def said(node: Node) -> str:
    """A node in the words of a message."""
    if isinstance(node, Scalar):
        return repr(node.text) if node.text or node.quoted else "nothing"
    if isinstance(node, Items):
        return "[" + ", ".join(item.text if isinstance(item, Scalar) else "…" for item in node.nodes) + "]"
    return "a mapping of keys" if node.entries else "an empty mapping"


def _read_items(kind: Any, node: Node) -> Any:
    if isinstance(node, Scalar):
        node = written_out(node)
    if isinstance(node, Scalar) and "," in node.text:
        node = written_out(Scalar(f"[{node.text}]", node.where))
    if not isinstance(node, Items):
        whole = " (a list is set as a whole)" if isinstance(node, Mapping) else ""
        raise Misfit(node.where, expectation(kind) + whole, said(node))
    origin, arguments = get_origin(kind), get_args(kind)
    endless = origin is list or arguments[-1] is ...
    if not endless and len(arguments) != len(node.nodes):
        raise Misfit(node.where, expectation(kind), f"the {len(node.nodes)} of {said(node)}")
    kinds = [arguments[0]] * len(node.nodes) if endless else arguments
    try:
        values = [read_value(each, item) for each, item in zip(kinds, node.nodes, strict=True)]
    except Misfit as misfit:
        raise Misfit(misfit.where, expectation(kind), f"{misfit.found} in {said(node)}") from None
    return tuple(values) if origin is tuple else values


def _read_table(kind: Any, node: Node) -> Any:
    if not isinstance(node, Mapping):
        raise Misfit(node.where, expectation(kind), said(node))
    values = {}
    for key, item in node.entries.items():
        try:
            values[key] = read_value(get_args(kind)[1], item)
        except Misfit as misfit:
            raise Misfit(misfit.where, expectation(kind), f"{misfit.found} for {key!r}") from None
    return values


def _read_choice(kind: Any, node: Scalar) -> Any:
    for choice in get_args(kind):
        if to_text(choice) == node.text:
            return choice
    raise Misfit(node.where, expectation(kind), said(node))


def _is_choice(kind: Any, text: str) -> bool:
    return get_origin(kind) is Literal and text in map(to_text, get_args(kind))


def _whole(text: str) -> int:
    if _WHOLE.fullmatch(text):
        return int(text)
    # A sweep hands 8.0 to a key that counts, and people write 1e5.
    number = _number(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


_READERS: dict[Any, Callable[[str], Any]] = {int: _whole, float: _number, bool: _truth, str: str}


def _one(kind: Any) -> str:
    return f"a {_WORDS[kind]}" if kind in _WORDS else expectation(kind)


def _plural(kind: Any) -> str:
    return f"{_WORDS[kind]}s" if kind in _WORDS else "lists"
