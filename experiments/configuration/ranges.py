"""The range of each number of an experiment, as a table: key, condition, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """A condition on a number, or on each number of a list or table.

    Attributes:
        words: what is expected, after "must be".
        holds: whether a number is in range.
    """

    words: str
    holds: Callable[[float], bool]


_POSITIVE = Range("greater than 0", lambda value: value > 0)
_COUNT = Range("at least 1", lambda value: value >= 1)
_NOT_NEGATIVE = Range("0 or more", lambda value: value >= 0)
_SHARE = Range("between 0 and 1", lambda value: 0 <= value <= 1)
_SOME_SHARE = Range("greater than 0 and at most 1", lambda value: 0 < value <= 1)
_BELOW_ONE = Range("at least 0 and below 1", lambda value: 0 <= value < 1)

RANGES: dict[str, Range] = {
    "seed": _NOT_NEGATIVE,
    "data.patch_size": _COUNT,
    "data.batch_size": _COUNT,
    "data.spacing": _POSITIVE,
    "data.workers": _NOT_NEGATIVE,
    "data.split.folds": Range("at least 3: one fold tests, one validates, the rest train", lambda value: value >= 3),
    "data.split.fold": _NOT_NEGATIVE,
    "data.sampling.foreground": Range("between 2/3 and 1", lambda value: 2 / 3 - 1e-3 <= value <= 1),
    "data.source.labels": _COUNT,
    "data.held_out.*.labels": _COUNT,
    "model.network.filters": _COUNT,
    "model.network.init_filters": _COUNT,
    "model.network.blocks_down": _COUNT,
    "model.network.blocks_up": _COUNT,
    "model.network.feature_size": _COUNT,
    "model.network.depths": _COUNT,
    "model.network.num_heads": _COUNT,
    "model.network.window_size": _COUNT,
    "model.network.kernel_size": _COUNT,
    "model.segmentation.weight": _NOT_NEGATIVE,
    "model.contrastive.weight": _NOT_NEGATIVE,
    "model.contrastive.temperature": _POSITIVE,
    "model.contrastive.stride": _COUNT,
    "model.contrastive.dimension": _COUNT,
    "model.contrastive.slots": _NOT_NEGATIVE,
    "model.contrastive.cohesion": _NOT_NEGATIVE,
    "model.contrastive.separation": _NOT_NEGATIVE,
    "model.contrastive.ramp": _SHARE,
    "model.contrastive.fade": _SHARE,
    "model.restoration.weight": _NOT_NEGATIVE,
    "model.restoration.channels": _COUNT,
    "model.restoration.beta": _POSITIVE,
    "model.restoration.rest": _NOT_NEGATIVE,
    "model.restoration.ssim": _NOT_NEGATIVE,
    "model.restoration.ramp": _SHARE,
    "model.restoration.fade": _SHARE,
    "model.restoration.region.band": _NOT_NEGATIVE,
    "model.restoration.region.reach": _POSITIVE,
    "model.restoration.region.share": _SOME_SHARE,
    "model.restoration.region.samples": _COUNT,
    "model.restoration.region.rate": Range("greater than 0 and below 1", lambda value: 0 < value < 1),
    "model.restoration.region.decay": _BELOW_ONE,
    "model.restoration.corruption.cells": _POSITIVE,
    "model.restoration.corruption.eligible": _SHARE,
    "model.restoration.corruption.probability": _SHARE,
    "model.restoration.corruption.decoys": _SHARE,
    "model.restoration.corruption.alike": _SHARE,
    "model.restoration.corruption.ramp": _SHARE,
    "model.restoration.cross_entropy": _NOT_NEGATIVE,
    "model.restoration.corruption.operators": _NOT_NEGATIVE,
    "model.consistency.weight": _NOT_NEGATIVE,
    "model.consistency.ramp": _SHARE,
    "model.skeleton.weight": _NOT_NEGATIVE,
    "model.skeleton.stride": _COUNT,
    "model.skeleton.temperature": _POSITIVE,
    "model.skeleton.dimension": _COUNT,
    "model.skeleton.slots": _COUNT,
    "model.skeleton.ramp": _SHARE,
    "model.features.strides": _COUNT,
    "model.features.probability": _SHARE,
    "model.features.alpha": _POSITIVE,
    "model.features.factor": _NOT_NEGATIVE,
    "model.optimizer.lr": _POSITIVE,
    "model.optimizer.weight_decay": _NOT_NEGATIVE,
    "model.optimizer.betas": _BELOW_ONE,
    "model.optimizer.momentum": _BELOW_ONE,
    "model.schedule.warmup": _SHARE,
    "model.schedule.power": _POSITIVE,
    "model.schedule.floor": _SHARE,
    "trainer.max_steps": _COUNT,
    "trainer.devices": _COUNT,
    "trainer.nodes": _COUNT,
    "trainer.accumulate": _COUNT,
    "trainer.gradient_clip": _NOT_NEGATIVE,
    "trainer.nonfinite_limit": _COUNT,
    "trainer.timeout": _POSITIVE,
    "trainer.ema": Range("greater than 0 and below 1, or null", lambda value: 0 < value < 1),
    "trainer.validate_every": _COUNT,
    "trainer.checkpoint_every": _COUNT,
    "trainer.checkpoint_minutes": _POSITIVE,
    "trainer.log_every": _COUNT,
    "evaluation.overlap": _BELOW_ONE,
    "evaluation.smallest_piece": _SHARE,
    "evaluation.tolerance": _POSITIVE,
    "evaluation.prediction_labels": _COUNT,
    "logging.panel_every": _NOT_NEGATIVE,
    "cluster.profiles.*.gpus": _NOT_NEGATIVE,
    "cluster.profiles.*.cpus": _COUNT,
    "cluster.profiles.*.signal": _COUNT,
}


def out_of_range(config: Any) -> Iterator[tuple[str, str]]:
    """Every number of ``config`` that is out of its range.

    Yields:
        its dotted key and the sentence.
    """
    for key, value in _leaves(config, ""):
        wanted = RANGES.get(key) or RANGES.get(_general(key))
        if wanted is None:
            continue
        for name, number in _numbers(value):
            if not wanted.holds(number):
                of = f" (in {list(value)})" if isinstance(value, list | tuple) else ""
                yield key + name, f"must be {wanted.words}, not {number:g}{of}."


def _leaves(section: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in fields(section):
        value = getattr(section, field.name)
        key = f"{prefix}.{field.name}" if prefix else field.name
        if is_dataclass(value):
            yield from _leaves(value, key)
        elif isinstance(value, dict) and any(map(is_dataclass, value.values())):
            for name, item in value.items():
                yield from _leaves(item, f"{key}.{name}")
        else:
            yield key, value


def _general(key: str) -> str:
    for table in ("data.held_out.", "cluster.profiles."):
        if key.startswith(table):
            return f"{table}*.{key.removeprefix(table).partition('.')[2]}"
    return key


def _numbers(value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        yield from ((f".{name}", number) for name, number in value.items())
    elif isinstance(value, list | tuple):
        yield from (("", number) for number in value)
    elif value is not None:
        yield "", value
