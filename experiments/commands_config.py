"""``pansite config show|check|schema``."""

from __future__ import annotations

from collections.abc import Sequence

from datamodules.errors import UsageError
from experiments.configuration import Loaded
from experiments.configuration.describe import Description, describe
from experiments.configuration.faults import did_you_mean


def show(loaded: Loaded) -> int:
    """Print the resolved YAML."""
    print(loaded.yaml, end="")
    return 0


def check(loaded: Loaded, experiment: str) -> int:
    """Say that the configuration holds; its faults were told before, if it had any."""
    data, count = loaded.config.data, len(loaded.config.data.held_out)
    sites = "no held-out site" if not count else f"{count} held-out {'site' if count == 1 else 'sites'}"
    print(f"{experiment}: fine. Source {data.source.name}, {sites}, {loaded.config.trainer.max_steps} steps.")
    return 0


def schema(prefixes: Sequence[str]) -> int:
    """Print every key, or those below ``prefixes``, with type, default and meaning.

    Raises:
        UsageError: there is no key below one of the prefixes.
    """
    keys = describe()
    for prefix in prefixes:
        if not any(_below(key.path, prefix) for key in keys):
            near = did_you_mean(prefix, dict.fromkeys(part for key in keys for part in _heads(key.path)))
            near = near if near.startswith("did") else "see `pansite config schema`."
            raise UsageError(f"config schema: there is no key {prefix!r}; {near}")
    for key in keys:
        if not prefixes or any(_below(key.path, prefix) for prefix in prefixes):
            print(_line(key))
    return 0


def _line(key: Description) -> str:
    only = f" [{', '.join(key.components)}]" if key.components else ""
    default = f" = {key.default}" if key.default else " (required)"
    return f"{key.path}{only}: {key.kind}{default}\n    {key.meaning}".rstrip()


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")


def _heads(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
