"""One layer over another, by the schema: what chooses another component drops the keys of the old one."""

from __future__ import annotations

from dataclasses import replace

from experiments.configuration.faults import Faults
from experiments.configuration.layers import parse_yaml
from experiments.configuration.nodes import Items, Mapping, Node, Scalar
from experiments.configuration.schema import Slot, child


def merge(earlier: Node | None, later: Node, slot: Slot | None, *, defaults: bool = True) -> Node:
    """Lay ``later`` over ``earlier``.

    Args:
        earlier: what stands there; None for nothing.
        later: what a later layer says.
        slot: the place in the schema; None where the key is unknown.
        defaults: a node that does not choose a component has the default's; switched off among the overrides, so
            that their order does not matter when one sets ``name`` and another a key of that component.
    """
    later = normalised(later, slot)
    if not isinstance(later, Mapping):
        return later
    if not isinstance(earlier, Mapping) or _replaces(earlier, later, slot, defaults):
        earlier = Mapping({}, later.where, later.partial)
    joined = Mapping({**earlier.entries, **later.entries}, earlier.where, earlier.partial)
    entries = dict(earlier.entries)
    for key, node in later.entries.items():
        entries[key] = merge(earlier.entries.get(key), node, child(slot, joined, key), defaults=defaults)
    return replace(joined, entries=entries)


def normalised(node: Node, slot: Slot | None) -> Node:
    """``node`` in the long form that its place expects: a component's bare name, ``{…}`` written out on a command
    line, and a section left empty become mappings."""
    if slot is None or not isinstance(node, Scalar) or node.interpolates:
        return node
    if slot.is_section or slot.is_table:
        if not node.text and not node.quoted:
            return Mapping({}, node.where)
        if node.is_null and slot.is_table:
            return Mapping({}, node.where)
        if node.text.lstrip().startswith("{"):
            return written_out(node)
        if slot.is_section and slot.registry is not None and not node.is_null:
            return Mapping({slot.registry.key: node}, node.where)
    return node


def written_out(node: Scalar) -> Node:
    """The list or mapping that a text spells, as ``[8]``, ``(8, 16)`` or ``{'name': 'x'}``; or else the text."""
    text = node.text.strip()
    if text.startswith("(") and text.endswith(")"):
        text = f"[{text[1:-1]}]"
    if not text.startswith(("[", "{")):
        return node
    faults = Faults()
    parsed = parse_yaml(text, node.where, faults, lines=False)
    return node if faults or not isinstance(parsed, Items | Mapping) else parsed


def _replaces(earlier: Mapping, later: Mapping, slot: Slot | None, defaults: bool) -> bool:
    if slot is None:
        return False
    if slot.replace and not later.partial:
        return True
    if slot.registry is None or not slot.is_section:
        return False
    key = slot.registry.key
    new, old = later.entries.get(key), earlier.entries.get(key)
    if not isinstance(new, Scalar):
        return False
    if isinstance(old, Scalar):
        return new.text != old.text
    return defaults and slot.choice(earlier) not in (None, new.text)
