"""``${data.patch_size}`` and ``${oc.env:VAR,default}``, resolved by OmegaConf; a sentence where that fails."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from functools import reduce
from operator import getitem
from typing import Any

from omegaconf import Container, OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.nodes import Items, Mapping, Node, Scalar, from_plain, to_text
from experiments.configuration.schema import ROOT, Slot, child, every_key

_ENVIRONMENT = re.compile(r"Environment variable '(?P<name>[^']*)' not found")


def resolve(root: Mapping, faults: Faults) -> Mapping:
    """``root`` with every interpolation replaced by what it refers to, defaults included."""
    if not _interpolates(root):
        return root
    root = _without_broken(root, "", faults)
    root = _with_choices(root, OmegaConf.create(_plain(root)), ROOT)
    resolved = _resolved(root, OmegaConf.create(_with_defaults(root, ROOT)), (), faults)
    assert isinstance(resolved, Mapping)
    return resolved


def escaped(text: str) -> str:
    """``text`` so that it reads back as it is: its own ``${`` refers to nothing."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", text)


def _interpolates(node: Node) -> bool:
    if isinstance(node, Mapping):
        return any(map(_interpolates, node.entries.values()))
    return any(map(_interpolates, node.nodes)) if isinstance(node, Items) else node.interpolates


def _without_broken(node: Any, key: str, faults: Faults) -> Any:
    if isinstance(node, Mapping):
        entries = {name: _without_broken(item, _join(key, name), faults) for name, item in node.entries.items()}
        return Mapping(entries, node.where, node.partial)
    if isinstance(node, Items):
        return Items(tuple(_without_broken(item, key, faults) for item in node.nodes), node.where)
    if node.interpolates:
        try:
            OmegaConf.create({"value": node.text})
        except GrammarParseError:
            form = "write ${section.key}, ${oc.env:VARIABLE} or ${oc.env:VARIABLE,default}"
            faults.add(node.where, key, f"{node.text!r} is not a valid interpolation; {form}.")
            return Scalar("", node.where)
    return node


def _with_choices(node: Any, config: Any, slot: Slot | None) -> Any:
    """``node`` with the names of components resolved: the defaults to be filled in hang on them."""
    if not isinstance(node, Mapping) or slot is None:
        return node
    entries = dict(node.entries)
    key = slot.registry.key if slot.registry is not None and slot.is_section else None
    choice = entries.get(key) if key else None
    if key and isinstance(choice, Scalar) and choice.interpolates:
        with suppress(OmegaConfBaseException):
            entries[key] = Scalar(to_text(config[key]), choice.where)
    chosen = Mapping(entries, node.where, node.partial)
    for name, item in chosen.entries.items():
        if isinstance(item, Mapping):
            entries[name] = _with_choices(item, config[name], child(slot, chosen, name))
    return Mapping(entries, node.where, node.partial)


def _resolved(node: Node, config: Any, path: tuple[str | int, ...], faults: Faults) -> Node:
    """``node`` resolved; ``config`` is the whole, ``path`` the way to ``node`` in it."""
    if isinstance(node, Mapping):
        entries = {key: _resolved(item, config, (*path, key), faults) for key, item in node.entries.items()}
        return Mapping(entries, node.where, node.partial)
    if isinstance(node, Items):
        items = [_resolved(item, config, (*path, index), faults) for index, item in enumerate(node.nodes)]
        return Items(tuple(items), node.where)
    if not node.interpolates:
        return node
    try:
        value = reduce(getitem, path, config)
        plain = OmegaConf.to_container(value, resolve=True) if isinstance(value, Container) else value
    except OmegaConfBaseException as error:
        key = ".".join(part for part in path if isinstance(part, str))
        faults.add(node.where, key, _sentence(node.text, error))
        return Scalar("", node.where)
    # An environment variable holds text, whatever its key expects: so what was resolved is read by the key's type.
    return from_plain(plain, node.where)


def _sentence(text: str, error: OmegaConfBaseException) -> str:
    detail = str(error).splitlines()[0]
    if match := _ENVIRONMENT.search(detail):
        name = match["name"]
        return f"the environment variable {name} is not set; set it, or write ${{oc.env:{name},some default}}."
    if isinstance(error, InterpolationKeyError):
        missing = re.search(r"'([^']*)'", detail)
        near = did_you_mean(missing[1], [key.path for key in every_key()]) if missing else ""
        near = f" {near.capitalize()}" if near.startswith("did") else ""
        return f"{text!r} refers to a key that does not exist.{near}"
    if isinstance(error, UnsupportedInterpolationType):
        return f"{text!r} uses an unknown resolver; oc.env, oc.select and oc.decode are known."
    return f"{text!r} can't be resolved: {detail[0].lower()}{detail[1:]}."


def _plain(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {key: _plain(item) for key, item in node.entries.items()}
    if isinstance(node, Items):
        return [_plain(item) for item in node.nodes]
    return None if node.is_null else node.text


def _with_defaults(node: Node, slot: Slot | None) -> Any:
    """Plain containers of ``node`` and, below it, of the defaults of all that it leaves unsaid."""
    if not isinstance(node, Mapping) or slot is None:
        return _plain(node)
    said = {key: _with_defaults(item, child(slot, node, key)) for key, item in node.entries.items()}
    if slot.is_table:
        return said if slot.field is None or slot.required or slot.item.is_section else {**slot.default(), **said}
    if slot.section(node) is None:
        return said
    defaults = {key: _plain_default(value) for key, value in slot.defaults(node).items()}
    return {**defaults, **said}


def _plain_default(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
