"""JSON that this software wrote earlier, read again: what is damaged is refused by name, or computed anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from datamodules.errors import UsageError

T = TypeVar("T", dict[str, Any], list[Any])
_NAMES: dict[type[Any], str] = {dict: "an object", list: "a list"}


def read_json(path: Path, kind: type[T], way_out: str) -> T:
    """What a file holds that nothing here can bring back.

    Args:
        path: the file.
        kind: ``dict`` or ``list``, whichever it holds.
        way_out: what to do where it does not, the end of the sentence.

    Raises:
        UsageError: it can't be read, is not JSON, or of another kind.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable JSON ({error}); {way_out}.") from error
    if not isinstance(found, kind):
        raise UsageError(f"{path}: {_NAMES[kind]} is expected there; {way_out}.")
    return found


def known_json(path: Path) -> dict[str, Any]:
    """What a file holds that is computed anew where it can't be read; empty then."""
    try:
        return read_json(path, dict, "")
    except UsageError:
        return {}
