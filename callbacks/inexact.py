"""What a run says of itself for ever once it went on under conditions that can't give the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.json_files import read_json

Conditions = Mapping[str, Any]
Entry = dict[str, Any]
"""``step`` from which it went on, ``date``, and ``changes``: by condition, what it was and what it became."""

WORDS = {
    "ranks": ("{} rank", "{} ranks"),
    "threads": ("{} thread a rank", "{} threads a rank"),
    "device": ("device {}",) * 2,
    "torch": ("PyTorch {}",) * 2,
}
"""How a condition is said of one and of several; any other one by its name and value."""


def changes(before: Conditions, now: Conditions) -> dict[str, list[Any]]:
    """The conditions that differ, each with what it was and what it is; one that either side does not know is none."""
    common = [name for name in before if name in now]
    return {name: [before[name], now[name]] for name in common if before[name] != now[name]}


def difference(changed: Mapping[str, Sequence[Any]]) -> str:
    """``was 2 ranks, is 1; was 4 threads a rank, is 2``."""
    return "; ".join(f"was {_said(name, before)}, is {_value(now)}" for name, (before, now) in changed.items())


def sentence(entries: Sequence[Mapping[str, Any]]) -> str:
    """What is told of a run wherever it is shown; an empty string where it has always been exact."""
    if not entries:
        return ""
    parts = [f"from step {entry['step']} ({difference(entry['changes'])}; {entry['date']})" for entry in entries]
    return f"Its training went on inexactly {' and '.join(parts)}: the same command need not give the same bits."


def read_inexact(path: Path) -> list[Entry]:
    """The entries of a run's ``inexact.json``; none where there is no such file.

    Raises:
        UsageError: the file is damaged.
    """
    return read_json(path, list, "restore it: it says where the run is not exact") if path.is_file() else []


def recorded(checkpoint: Mapping[str, Any]) -> list[Entry]:
    """The entries that a checkpoint holds."""
    state = checkpoint.get("callbacks", {}).get("ConditionsGuard", {})
    return list(state.get("inexact", []))


def _said(name: str, value: Any) -> str:
    one, several = WORDS.get(name, (f"{name} {{}}",) * 2)
    return (one if value == 1 else several).format(_value(value))


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
