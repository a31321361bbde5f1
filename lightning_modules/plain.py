"""Config dataclasses as plain containers and back: a checkpoint then loads with ``weights_only=True``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_origin, get_type_hints

C = TypeVar("C")


def to_plain(config: Any) -> dict[str, Any]:
    """Dicts, lists, strings and numbers alone."""
    plain: dict[str, Any] = _containers(asdict(config))
    return plain


def from_plain(kind: type[C], plain: Mapping[str, Any]) -> C:
    """The dataclass that :func:`to_plain` was given, of class ``kind``; absent keys take their defaults.

    Raises:
        TypeError: a key that the dataclass does not have.
        KeyError: a name that is not registered.
    """
    hints = get_type_hints(kind)
    registries = {f.name: f.metadata.get("registry") for f in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    values: dict[str, Any] = {}
    for name, value in plain.items():
        hint, registry = hints.get(name), registries.get(name)
        if registry is not None:
            values[name] = from_plain(registry.config_class(value[registry.key]), value)
        elif isinstance(hint, type) and is_dataclass(hint):
            values[name] = from_plain(hint, value)
        elif get_origin(hint) is tuple:
            values[name] = tuple(value)
        else:
            values[name] = value
    return kind(**values)


def unknown_names(kind: type[Any], plain: Mapping[str, Any]) -> list[str]:
    """Dotted keys and registered names in ``plain`` that ``kind`` does not know."""
    hints = get_type_hints(kind)
    known = {f.name: f.metadata.get("registry") for f in fields(kind)}
    unknown: list[str] = []
    for name, value in plain.items():
        inner: Any = hints.get(name)
        if name not in known:
            unknown.append(name)
            continue
        if (registry := known[name]) is not None:
            if value.get(registry.key) not in registry.names():
                unknown.append(f"{name}.{registry.key}={value.get(registry.key)}")
                continue
            inner = registry.config_class(value[registry.key])
        if isinstance(inner, type) and is_dataclass(inner):
            unknown += [f"{name}.{key}" for key in unknown_names(inner, value)]
    return unknown


def _containers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _containers(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_containers(part) for part in value]
    return value
