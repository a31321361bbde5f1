"""Plain containers as YAML that a person likes to read and that loads to the same."""

from __future__ import annotations

from typing import Any

import yaml

from experiments.configuration.interpolation import escaped


class _Dumper(yaml.SafeDumper):
    """Lists on one line, mappings in blocks, in the order of the schema."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: every key stands for itself."""
        return True


def _write_list(dumper: yaml.SafeDumper, items: Any) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", escaped(text), style='"' if text == "None" else None)


_Dumper.add_representer(list, _write_list)
_Dumper.add_representer(tuple, _write_list)
_Dumper.add_representer(str, _write_text)


def to_yaml(resolved: dict[str, Any]) -> str:
    """``resolved`` as YAML."""
    return yaml.dump(resolved, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)
