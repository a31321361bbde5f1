"""Components by name: a YAML's ``name: dynunet`` finds a config dataclass, and the dataclass its component.

The dataclasses of a component stand next to it in a file that imports neither torch nor MONAI, so that a
configuration is read and checked in a fraction of a second; the component is imported when it is built.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

C = TypeVar("C")


class Registry:
    """The components of one kind.

    Args:
        kind: what the components are, as it is said in messages ("network", "layout").
        key: the key of the YAML that chooses among them ("name", "layout").
    """

    def __init__(self, kind: str, key: str = "name") -> None:
        self.kind = kind
        self.key = key
        self._configs: dict[str, type[Any]] = {}
        self._targets: dict[str, str] = {}

    def register(self, name: str, target: str) -> Callable[[type[C]], type[C]]:
        """Decorate a config dataclass: ``target`` is ``"module:callable"``, called as ``target(config, ...)``.

        The dataclass must have a field called like the registry's key whose default is ``name``.
        """

        def add(config: type[C]) -> type[C]:
            if name in self._configs:
                raise AssertionError(f"{self.kind} {name!r} is registered twice")
            self._configs[name] = config
            self._targets[name] = target
            return config

        return add

    def names(self) -> list[str]:
        """The registered names, in the order of registration."""
        return list(self._configs)

    def config_class(self, name: str) -> type[Any]:
        """The config dataclass of ``name``.

        Raises:
            KeyError: nothing of that name is registered.
        """
        return self._configs[name]

    def build(self, config: Any, *args: Any, **kwargs: Any) -> Any:
        """Import the component that ``config`` belongs to and call it with ``config`` and what else is given."""
        module, _, attribute = self._targets[getattr(config, self.key)].partition(":")
        return getattr(import_module(module), attribute)(config, *args, **kwargs)
