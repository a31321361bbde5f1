"""Merged nodes into the typed dataclasses of an experiment; what does not fit is a fault, and the rest goes on."""

from __future__ import annotations

from typing import Any

from experiments.config import ExperimentConfig
from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.merge import normalised
from experiments.configuration.nodes import Mapping, Node, Scalar
from experiments.configuration.schema import ROOT, Slot, every_key, slots
from experiments.configuration.values import Misfit, expectation, read_value, said

_MISFIT = object()


def build(root: Mapping, faults: Faults) -> ExperimentConfig | None:
    """The experiment that ``root`` describes.

    Args:
        root: merged layers, interpolations resolved.
        faults: takes up every key that is unknown, missing or of another type.

    Returns:
        the experiment, with the default where a key had a fault; None where there is no default to take.
    """
    config: ExperimentConfig | None = _section(ROOT, root, "", faults)
    return config


def build_section(slot: Slot, root: Mapping, faults: Faults) -> Any:
    """The same for another dataclass than an experiment: the one that ``slot`` expects."""
    return _section(slot, root, "", faults)


def places(node: Node, key: str = "") -> dict[str, str]:
    """Where each dotted key was set."""
    found = {key: node.where}
    if isinstance(node, Mapping):
        for name, item in node.entries.items():
            found |= places(item, f"{key}.{name}" if key else name)
    return found


def _section(slot: Slot, node: Node, key: str, faults: Faults) -> Any:
    node = normalised(node, slot)
    if not isinstance(node, Mapping):
        expected = "keys of its own below it"
        if slot.registry is not None:
            expected += f" or the name of a {slot.registry.kind}"
        off = "; to switch it off, write 'weight: 0' below it" if "weight" in _known(slot) else ""
        faults.add(node.where, key, f"expects {expected}, not {said(node)}{off}.")
        return None
    section = slot.section(node)
    if section is None:
        _no_component(slot, node, key, faults)
        return None
    known = slots(section)
    for name, item in node.entries.items():
        if name not in known:
            _unknown(name, item, key, slot, node, known, faults)
    values = slot.defaults(node)
    whole = True
    for name, place in known.items():
        path = f"{key}.{name}" if key else name
        if name in node.entries:
            value = _value(place, node.entries[name], path, faults)
            if value is not _MISFIT:
                values[name] = value
        if name not in values:
            if not faults.touches(path) and not faults.incomplete:
                faults.add(node.where, path, f"is missing; it expects {expectation(place.kind)}.")
            faults.doubt(path)
            # An empty word stands in, so that the rest can be checked all the same.
            whole = whole and place.kind is str
            values[name] = ""
    return section(**values) if whole else None


def _value(slot: Slot, node: Node, key: str, faults: Faults) -> Any:
    if slot.is_section:
        section = _section(slot, node, key, faults)
        return _MISFIT if section is None else section
    if slot.is_table:
        return _table(slot, normalised(node, slot), key, faults)
    if faults.touches(key):
        return _MISFIT
    try:
        return read_value(slot.kind, node)
    except Misfit as misfit:
        choices = misfit.expected.removeprefix("one of ").removesuffix(" or null").split(", ")
        hint = did_you_mean(misfit.found.strip("'"), choices) if misfit.expected.startswith("one of") else ""
        hint = f" {hint.capitalize()}" if hint.startswith("did") else ""
        faults.add(misfit.where, key, f"{misfit}.{hint}")
        return _MISFIT


def _table(slot: Slot, node: Node, key: str, faults: Faults) -> Any:
    if not isinstance(node, Mapping):
        faults.add(node.where, key, f"expects names with values below it, not {said(node)}.")
        return _MISFIT
    values = {name: _value(slot.item, item, f"{key}.{name}", faults) for name, item in node.entries.items()}
    base = {} if slot.item.is_section or slot.required else slot.default()
    return {**base, **{name: value for name, value in values.items() if value is not _MISFIT}}


def _unknown(
    name: str, item: Node, key: str, slot: Slot, node: Mapping, known: dict[str, Slot], faults: Faults
) -> None:
    path = f"{key}.{name}" if key else name
    if "." in name:
        nested = ": {".join(name.split(".")) + ": …" + "}" * name.count(".")
        faults.add(item.where, path, f"dots join keys in overrides only; in a file write {nested}.")
        return
    owner = key or "an experiment"
    if slot.registry is not None:
        owner = f"the {slot.registry.kind} {slot.choice(node)!r}"
    hint = did_you_mean(name, known)
    elsewhere = [other.path for other in every_key() if other.path.rpartition(".")[2] == name and other.path != path]
    if elsewhere and not hint.startswith("did"):
        hint = f"did you mean {elsewhere[0]!r}?"
    faults.add(item.where, path, f"{owner} has no key {name!r}; {hint}")


def _no_component(slot: Slot, node: Mapping, key: str, faults: Faults) -> None:
    assert slot.registry is not None
    names, chooser = slot.registry.names(), slot.registry.key
    chosen = node.entries.get(chooser)
    path = f"{key}.{chooser}"
    if chosen is None:
        if not faults.incomplete:
            faults.add(node.where, path, f"is missing; it chooses the {slot.registry.kind}: {', '.join(names)}.")
    elif not isinstance(chosen, Scalar) or (not chosen.text and not chosen.quoted):
        if not faults.touches(path):
            faults.add(chosen.where, path, f"expects the name of a {slot.registry.kind}, not {said(chosen)}.")
    else:
        hint = did_you_mean(chosen.text, names)
        faults.add(chosen.where, path, f"there is no {slot.registry.kind} {chosen.text!r}; {hint}")


def _known(slot: Slot) -> dict[str, Slot]:
    return slots(slot.kind) if slot.is_section else {}
