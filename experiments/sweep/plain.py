"""What YAML makes of a node, as W&B reads a sweep file: ours keep the text that was written."""

from __future__ import annotations

import re
from typing import Any

import yaml

from experiments.configuration.faults import Faults
from experiments.configuration.nodes import Items, Mapping, Node, Scalar

_DECIMAL = re.compile(r"[+-]?(0|[1-9]\d*)")
_TEXT_NUMBER = re.compile(r"[+-]?\d+[eE][+-]?\d+")


def plain(node: Node, key: str, faults: Faults) -> Any:
    """The value that W&B takes ``node`` for.

    Args:
        node: what was written.
        key: what it belongs to, for messages.
        faults: takes up what YAML reads as something else than it says: ``0123`` as 83, ``1:30`` as 90.
    """
    if isinstance(node, Mapping):
        return {name: plain(item, key, faults) for name, item in node.entries.items()}
    if isinstance(node, Items):
        return [plain(item, key, faults) for item in node.nodes]
    value = _typed(node)
    if _surprises(node, value):
        faults.add(node.where, key, f"YAML reads {node.text} as {value}; write '{node.text}' in quotes, or {value}.")
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def not_a_number(value: Any) -> str:
    """A value that should have been a number, in the words of a message."""
    if isinstance(value, str) and _TEXT_NUMBER.fullmatch(value):
        mantissa, _, exponent = value.lower().partition("e")
        sign = exponent if exponent[0] in "+-" else f"+{exponent}"
        return f"{value!r}, which YAML reads as text: write {mantissa}.0e{sign}"
    return repr(value)


def _typed(node: Scalar) -> Any:
    if node.quoted:
        return node.text
    loader = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, node.text, (True, False))  # type: ignore[no-untyped-call]
    try:
        return loader.construct_object(yaml.ScalarNode(tag, node.text))
    except ValueError:  # as 2026-99-99, a date that there is none
        return node.text


def _surprises(node: Scalar, value: Any) -> bool:
    if isinstance(value, bool | str) or value is None:
        return False
    if isinstance(value, int):
        return not _DECIMAL.fullmatch(node.text)
    return ":" in node.text or not isinstance(value, float)
