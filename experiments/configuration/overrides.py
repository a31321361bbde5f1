"""Overrides from a command line: ``k=v``, ``--k=v``, ``--k v`` and ``++k=v``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.configuration.faults import Faults
from experiments.configuration.merge import merge
from experiments.configuration.nodes import Mapping, Node, Scalar
from experiments.configuration.schema import ROOT


@dataclass(frozen=True)
class Override:
    """One key and the text given for it; the type of the key decides later what the text means."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}={self.text}"

    @property
    def where(self) -> str:
        """The place that messages name."""
        return f"override '{self}'"


def split_overrides(tokens: Sequence[str], faults: Faults) -> list[Override]:
    """Keys and texts of the arguments of a command line; what W&B adds for itself (``_wandb``) is dropped."""
    overrides = []
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        key, equals, text = token.lstrip("+-").partition("=")
        if not equals and token.startswith("--"):
            if not rest or rest[0].startswith("--"):
                faults.add(f"override '{token}'", "", f"has no value; write {token}=VALUE.")
                continue
            text = rest.pop(0)
        elif not equals:
            faults.add(f"override '{token}'", "", "has no value; write KEY=VALUE.")
            continue
        if key.partition(".")[0] == "_wandb":
            continue
        if not all(key.split(".")):
            faults.add(f"override '{token}'", "", "has no key; write KEY=VALUE, with dots between nested keys.")
            continue
        overrides.append(Override(key, text))
    return overrides


def override_layer(overrides: Sequence[Override]) -> Mapping:
    """The overrides as one layer, the last to be laid on; among themselves later ones win."""
    layer: Node = Mapping({}, "override", partial=True)
    for override in overrides:
        node: Node = Scalar(override.text, override.where)
        for key in reversed(override.key.split(".")):
            node = Mapping({key: node}, override.where, partial=True)
        layer = merge(layer, node, ROOT, defaults=False)
    assert isinstance(layer, Mapping)
    return layer
