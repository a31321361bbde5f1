"""Rules about sites, cases and how they are prepared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

from datamodules.layouts import LAYOUTS, SiteConfig
from experiments.config import ExperimentConfig
from experiments.configuration.problem import Problem

_NAME = re.compile(r"[\w][\w.+-]*")


def names(config: ExperimentConfig) -> Iterator[Problem]:
    """Names become folders, and every site needs its own."""
    if not _NAME.fullmatch(config.name):
        yield Problem(("name",), f"becomes a folder, so use letters, digits, '_', '-' and '.', not {config.name!r}.")
    source = config.data.source
    if not _NAME.fullmatch(source.name):
        yield Problem(("data.source.name",), f"use letters, digits, '_', '-' and '.', not {source.name!r}.")
    for key, site in config.data.held_out.items():
        path = f"data.held_out.{key}"
        if not _NAME.fullmatch(key):
            yield Problem((path,), f"a site's name has letters, digits, '_', '-' and '.', not {key!r}.")
        if site.name != key:
            yield Problem((f"{path}.name",), f"a held-out site is called by its key, {key!r}; leave 'name' out.")
        if key == source.name:
            yield Problem((path, "data.source.name"), "is called like the source; give one of them another name.")


def held_out_is_not_source(config: ExperimentConfig) -> Iterator[Problem]:
    """A site can't be trained on and held out."""
    for key, site in config.data.held_out.items():
        if _reads_the_same(site, config.data.source):
            place = f"{site.layout} at {site.root}" if site.root else site.layout
            yield Problem(
                (f"data.held_out.{key}.root", f"data.held_out.{key}", "data.source.root"),
                f"reads what the source reads ({place}), so it is not held out.",
            )


def labels(config: ExperimentConfig) -> Iterator[Problem]:
    """Without a label id there is no pancreas."""
    sites = {"data.source": config.data.source}
    sites |= {f"data.held_out.{key}": site for key, site in config.data.held_out.items()}
    for path, site in sites.items():
        if not site.labels and LAYOUTS.config_class(site.layout)().labels:  # else the layout finds them itself
            yield Problem((f"{path}.labels",), "is empty; list the label ids that make up the pancreas.")


def split(config: ExperimentConfig) -> Iterator[Problem]:
    """A fold is one of the folds."""
    folds, fold = config.data.split.folds, config.data.split.fold
    if fold >= folds:
        yield Problem(
            ("data.split.fold", "data.split.folds"),
            f"must be below the {folds} folds: 0 to {folds - 1}, not {fold}.",
        )


def window(config: ExperimentConfig) -> Iterator[Problem]:
    """A window has a width."""
    low, high = config.data.window
    if low >= high:
        yield Problem(
            ("data.window",),
            f"must rise from the HU that becomes 0 to that which becomes 1, not [{low:g}, {high:g}].",
        )


def augmentation(config: ExperimentConfig) -> Iterator[Problem]:
    """What is drawn can be drawn."""
    for key, sentence in config.data.augmentation.faults():
        yield Problem((f"data.augmentation.{key}", "data.augmentation.name"), f"{sentence}.")


RULES: Sequence[Callable[[ExperimentConfig], Iterator[Problem]]] = (
    names,
    held_out_is_not_source,
    labels,
    split,
    window,
    augmentation,
)


def _reads_the_same(one: SiteConfig, other: SiteConfig) -> bool:
    if one.layout != other.layout:
        return False
    own = {f.name for f in fields(one) if not f.metadata.get("selects")} - {f.name for f in fields(SiteConfig)}
    chooses = {"root", *own}
    return (bool(one.root) or bool(own)) and all(getattr(one, key) == getattr(other, key) for key in chooses)
