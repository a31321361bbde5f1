"""The dataclass tree of an experiment as a walk: what each key expects, and which dataclass a ``name`` chooses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from datamodules.registry import Registry
from experiments.config import ExperimentConfig
from experiments.configuration.nodes import Mapping, Scalar


@dataclass(frozen=True)
class Slot:
    """One place in the tree.

    Attributes:
        kind: the type that is expected there.
        registry: chooses the dataclass by a key of the node, where there is one.
        replace: a later layer replaces what stands there as a whole.
        path: it names a file or a folder.
        field: the dataclass field, for its default; None for the values of a mapping.
    """

    kind: Any
    registry: Registry | None = None
    replace: bool = False
    path: bool = False
    field: Field[Any] | None = None

    @property
    def is_section(self) -> bool:
        """Whether keys of a dataclass are expected."""
        return is_dataclass(self.kind)

    @property
    def is_table(self) -> bool:
        """Whether any keys with values of one kind are expected."""
        return get_origin(self.kind) is dict

    @property
    def item(self) -> Slot:
        """The place of a table's value."""
        kind = get_args(self.kind)[1]
        return Slot(kind, self.registry if is_dataclass(kind) else None)

    @property
    def optional(self) -> bool:
        """Whether null may stand here."""
        return NoneType in get_args(self.kind)

    @property
    def inner(self) -> Any:
        """The expected type, null left aside."""
        if get_origin(self.kind) in (Union, UnionType):
            rest = [kind for kind in get_args(self.kind) if kind is not NoneType]
            if len(rest) != 1:
                raise AssertionError(f"a key expects one type or null, not {self.kind}")
            return rest[0]
        return self.kind

    @property
    def required(self) -> bool:
        """Whether the key has no default."""
        return self.field is None or (self.field.default is MISSING and self.field.default_factory is MISSING)

    def default(self) -> Any:
        """A fresh default of the field."""
        assert self.field is not None
        return self.field.default if self.field.default_factory is MISSING else self.field.default_factory()

    def choice(self, node: Mapping) -> str | None:
        """The component that ``node`` chooses: by its key, else by the field's default; None where nothing does.

        What replaces the inherited as a whole has to choose by itself.
        """
        assert self.registry is not None
        chosen = node.entries.get(self.registry.key)
        if chosen is not None:
            return chosen.text if isinstance(chosen, Scalar) else None
        if self.required or (self.replace and not node.partial):
            return None
        return str(getattr(self.default(), self.registry.key))

    def defaults(self, node: Mapping) -> dict[str, Any]:
        """Defaults of the keys that ``node`` may have: the field's own where ``node`` keeps to its component."""
        section = self.section(node)
        assert section is not None
        chosen = self.registry is not None and self.registry.key in node.entries
        own = {} if chosen or self.required else vars(self.default())
        return {
            key: own[key] if key in own else place.default()
            for key, place in slots(section).items()
            if key in own or not place.required
        }

    def section(self, node: Mapping) -> type[Any] | None:
        """The dataclass whose keys ``node`` may have; None where it chooses none that is known."""
        if self.registry is None:
            return self.kind if self.is_section else None
        chosen = self.choice(node)
        return self.registry.config_class(chosen) if chosen in self.registry.names() else None


ROOT = Slot(ExperimentConfig)
_SLOTS: dict[type[Any], dict[str, Slot]] = {}


def slots(section: type[Any]) -> dict[str, Slot]:
    """The places of a dataclass by key."""
    if section in _SLOTS:
        return _SLOTS[section]
    kinds = get_type_hints(section)
    _SLOTS[section] = {
        field.name: Slot(
            kinds[field.name],
            registry=field.metadata.get("registry"),
            replace=bool(field.metadata.get("replace")),
            path=bool(field.metadata.get("path")),
            field=field,
        )
        for field in fields(section)
    }
    return _SLOTS[section]


def child(slot: Slot | None, node: Mapping, key: str) -> Slot | None:
    """The place of ``key`` in ``node``; None where nothing is known of it."""
    if slot is None:
        return None
    if slot.is_table:
        return slot.item
    section = slot.section(node)
    return slots(section).get(key) if section else None


@dataclass(frozen=True)
class Key:
    """A key that there can be.

    Attributes:
        path: its dotted path; ``*`` stands for a table's own keys.
        slot: its place.
        section: the dataclass it is a field of.
        component: the component that must have been chosen for it, or None.
        owner: the place of its section.
    """

    path: str
    slot: Slot
    section: type[Any]
    component: str | None
    owner: Slot

    @property
    def chooses(self) -> bool:
        """Whether this key chooses the component."""
        return self.owner.registry is not None and self.path.rpartition(".")[2] == self.owner.registry.key


def every_key(slot: Slot = ROOT, prefix: str = "") -> Iterator[Key]:
    """Every key there can be, once for each component it can belong to."""
    if slot.is_table:
        yield from every_key(slot.item, f"{prefix}.*")
        return
    sections: list[tuple[str | None, type[Any]]] = [(None, slot.kind)]
    if slot.registry is not None:
        sections = [(name, slot.registry.config_class(name)) for name in slot.registry.names()]
    for component, section in sections:
        for key, place in slots(section).items():
            path = f"{prefix}.{key}" if prefix else key
            if place.is_section or (place.is_table and place.item.is_section):
                yield from every_key(place, path)
            else:
                yield Key(path, place, section, component, slot)
