"""Under ``wandb agent``: the parameters it hands on, whatever macro its command uses, and the run id it has chosen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

_JSON_FILE = re.compile(r"(.*/)?sweep-[^/]*/config-[^/]*\.json")


def run_id() -> str | None:
    """The id of W&B's run that an agent has started this process for; None where none has."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def understood(words: Sequence[str]) -> list[str]:
    """A command line with every parameter of the sweep in it as ``key=value``.

    The agent writes them into a file too. What ``${args_json}``, ``${args_json_file}`` and ``${args_no_boolean_flags}``
    hand on in a form of their own, or a command without a macro does not, is taken from there.

    Args:
        words: of the command line, as the agent has made it.
    """
    path = os.environ.get("WANDB_SWEEP_PARAM_PATH")
    if run_id() is None or not path or not Path(path).is_file():
        return list(words)
    parameters = _parameters(Path(path))
    kept = [word for number, word in enumerate(words) if not _in_another_form(word, words[number + 1 :], parameters)]
    given = {word.lstrip("+-").partition("=")[0] for word in kept}
    return [*kept, *(f"{key}={value}" for key, value in parameters.items() if key not in given)]


def _parameters(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return {key: item["value"] for key, item in content.items() if isinstance(item, dict) and "value" in item}


def _in_another_form(word: str, rest: Sequence[str], parameters: dict[str, Any]) -> bool:
    if word.startswith("{"):
        try:
            return bool(json.loads(word) == parameters)
        except ValueError:
            return False
    if _JSON_FILE.fullmatch(word):
        return True
    # A flag alone says that it is true; with ${args_no_equals} its value follows.
    return word.startswith("--") and parameters.get(word[2:]) is True and rest[:1] not in (["True"], ["true"])
