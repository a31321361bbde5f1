"""A checkpoint beside what is to take it up: which version wrote it, and what of it does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor

VERSION_KEY = "pansite_version"


@lru_cache(maxsize=1)
def this_version() -> str:
    """The installed version of Pansite."""
    try:
        return version("pansite")
    except PackageNotFoundError:
        return "of unknown version"


def writer(checkpoint: Mapping[str, Any]) -> str:
    """Who wrote a checkpoint, and who reads it where that is another version: to be put in brackets."""
    wrote, reads = checkpoint.get(VERSION_KEY), this_version()
    if wrote is None:
        return f"written by a Pansite that did not sign it, read by {reads}"
    return f"written by Pansite {wrote}" + ("" if wrote == reads else f", read by {reads}")


def misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """How two sets of weights differ in names or shapes, told by the first that does; None where they don't."""
    names = [name for name in {**wanted, **found} if _shape(found, name) != _shape(wanted, name)]
    if not names:
        return None
    there, here = (_shape(weights, names[0]) or "not there" for weights in (found, wanted))
    return f"{_count(names, 'weight differs', 'weights differ')}, as {names[0]}, which is {there} instead of {here}"


def unknown_settings(names: Sequence[str]) -> str:
    """That settings of a checkpoint's model are not known here, told by the first."""
    return f"{_count(names, 'setting is', 'settings are')} not known here, as {names[0]}"


def _count(names: Sequence[str], one: str, several: str) -> str:
    return f"{len(names)} {one if len(names) == 1 else several}"


def _shape(weights: Mapping[str, Tensor], name: str) -> str | None:
    return "×".join(map(str, weights[name].shape)) or "a number" if name in weights else None
