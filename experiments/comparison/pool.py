"""The runs of each method side by side: seed × case for each source and site, the same cases for all methods."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datamodules.errors import UsageError
from experiments.comparison.measured import METRICS, CaseScore, Evaluated
from experiments.statistics import Array, Scores

FAILURE = "failure"
_VALUES = (*METRICS, FAILURE)
Pair = tuple[str, str]
"""The source that was trained on, and the site that was tested."""


@dataclass(frozen=True)
class Pool:
    """A method.

    Attributes:
        method: its name.
        seeds: all that it was trained with, each with the same sources and folds.
        held_out: scores by metric, ``failure`` among them (0 or 1), on held-out sites; of several folds the mean.
        source_test: the same on the sources' own test cases; each is one fold's.
        cases: ids by source and site, in the order of the scores.
        tested: cases of all runs on held-out sites.
        failed: those of them whose prediction or label alone is empty.
        validation: mean over the runs of the best Dice on source validation; None where it is not known of all.
        tolerance: of the NSD, mm.
        smallest_piece: pieces of a predicted mask under this share of its largest were left out; 0 for none.
        facts: what is known of each scan, by site and case.
    """

    method: str
    seeds: tuple[int, ...]
    held_out: dict[str, Scores]
    source_test: dict[str, Scores]
    cases: dict[Pair, tuple[str, ...]]
    tested: int
    failed: int
    validation: float | None
    tolerance: float
    smallest_piece: float
    facts: dict[tuple[str, str], Mapping[str, float]]

    def of_seeds(self, seeds: Sequence[int]) -> Pool:
        """The same method by some of its seeds; what is counted over all of them stays."""
        held_out, source_test = (
            {metric: scores.of_seeds(seeds) for metric, scores in table.items()}
            for table in (self.held_out, self.source_test)
        )
        return replace(self, seeds=tuple(seeds), held_out=held_out, source_test=source_test)


def pools(runs: Iterable[Evaluated]) -> list[Pool]:
    """Methods in the order in which they first come, on the same cases each.

    Raises:
        UsageError: methods, seeds or sources that were not tested on the same cases, or in different ways.
    """
    grouped: dict[str, list[Evaluated]] = {}
    for run in runs:
        grouped.setdefault(run.method, []).append(run)
    _refuse_other_protocols([run for group in grouped.values() for run in group])
    _refuse_other_contents([run for group in grouped.values() for run in group])
    found = [_pool(method, group) for method, group in grouped.items()]
    for other in found[1:]:
        _refuse_other_cases(found[0], other)
    return found


def _pool(method: str, runs: Sequence[Evaluated]) -> Pool:
    by_seed: dict[int, list[Evaluated]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run)
    seeds = tuple(sorted(by_seed))
    layout = {seed: sorted((run.source, run.fold) for run in by_seed[seed]) for seed in seeds}
    for seed in seeds:
        if len(set(layout[seed])) < len(layout[seed]):
            raise UsageError(
                f"{method}: seed {seed} is there twice ({' and '.join(run.where for run in by_seed[seed][:2])}); give "
                "each seed once, or the runs names of their own, as in name=RUN."
            )
        if layout[seed] != layout[seeds[0]]:
            raise UsageError(
                f"{method}: seed {seed} has other sources or folds than seed {seeds[0]}; give all of them."
            )
    tables = {seed: _tables(by_seed[seed]) for seed in seeds}
    first = tables[seeds[0]]
    for seed in seeds[1:]:
        _same(f"{method} with seed {seeds[0]}", _ids(first), f"{method} with seed {seed}", _ids(tables[seed]))
    roles = {(run.source, site): role for run in runs for site, role in run.roles.items()}

    def scores(role: str, metric: str) -> Scores:
        pairs = [pair for pair in first if roles[pair] == role]
        return Scores({pair: _array(tables, seeds, pair, metric) for pair in pairs}, seeds)

    cases = {pair: tuple(sorted(found)) for pair, found in first.items()}
    tested: dict[str, tuple[str, ...]] = {}
    for pair in cases:
        if roles[pair] == "held_out" and tested.setdefault(pair[1], cases[pair]) != cases[pair]:
            raise UsageError(f"{method}: {pair[1]} was not tested with the same cases from every source.")
    failures = [score.failure for run in runs for score in run.scores if run.roles[score.site] == "held_out"]
    validations = [run.validation for run in runs if run.validation is not None]
    return Pool(
        method,
        seeds,
        {metric: scores("held_out", metric) for metric in _VALUES},
        {metric: scores("source_test", metric) for metric in _VALUES},
        cases,
        len(failures),
        sum(failures),
        float(np.mean(validations)) if len(validations) == len(runs) else None,
        float(runs[0].protocol.get("tolerance_mm", np.nan)),
        float(runs[0].protocol.get("smallest_piece", 0)),
        {(score.site, score.case): score.facts for run in runs for score in run.scores},
    )


Tables = dict[Pair, dict[str, list[CaseScore]]]


def _tables(runs: Sequence[Evaluated]) -> Tables:
    """By source and site, the scores of each case: one a fold, of the source's own test cases one in all."""
    found: Tables = {}
    for run in sorted(runs, key=lambda run: (run.source, run.fold)):
        for score in run.scores:
            found.setdefault((run.source, score.site), {}).setdefault(score.case, []).append(score)
    return found


def _array(tables: dict[int, Tables], seeds: Sequence[int], pair: Pair, metric: str) -> Array:
    return np.array(
        [[_mean(scores, metric) for _, scores in sorted(tables[seed][pair].items())] for seed in seeds], dtype=float
    )


def _mean(scores: Sequence[CaseScore], metric: str) -> float:
    values = [float(score.failure) if metric == FAILURE else score.values[metric] for score in scores]
    return float(np.mean(values))


def _ids(tables: Tables) -> set[tuple[str, str]]:
    return {(site, case) for (_, site), cases in tables.items() for case in cases}


def _refuse_other_cases(one: Pool, other: Pool) -> None:
    for pools_ in (one, other):
        if not pools_.held_out["dice"].values:
            raise UsageError(f"{pools_.method}: has been tested on no held-out site.")
    for role in ("held_out", "source_test"):
        ids = [
            {(site, case) for source, site in getattr(pool, role)["dice"].values for case in pool.cases[source, site]}
            for pool in (one, other)
        ]
        _same(one.method, ids[0], other.method, ids[1])
    pairs = [set(pool.held_out["dice"].values) for pool in (one, other)]
    if pairs[0] != pairs[1]:
        raise UsageError(f"{one.method} and {other.method} were not trained on the same sources; give all of them.")


def _same(one: str, ids: set[tuple[str, str]], other: str, others: set[tuple[str, str]]) -> None:
    if ids == others:
        return
    words = [f"{name} alone has {_named(rest)}" for name, rest in ((one, ids - others), (other, others - ids)) if rest]
    raise UsageError(
        f"{one} and {other} were not tested on the same cases: {'; '.join(words)}. Evaluate the runs on the same sites."
    )


def _named(ids: set[tuple[str, str]]) -> str:
    names = [f"{site}/{case}" for site, case in sorted(ids)]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _refuse_other_contents(runs: Sequence[Evaluated]) -> None:
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for run in runs:
        for score in run.scores:
            if not score.content:
                continue
            content, where = seen.setdefault((score.site, score.case), (score.content, run.where))
            if content != score.content:
                raise UsageError(
                    f"{score.site}/{score.case} is another image or label in {run.where} than in {where}; evaluate "
                    "the runs on the same data."
                )


def _refuse_other_protocols(runs: Sequence[Evaluated]) -> None:
    first: dict[str, tuple[Any, str]] = {}
    for run in runs:
        for key, value in sorted(run.protocol.items()):
            known, where = first.setdefault(key, (value, run.where))
            if known != value:
                was, now = json.dumps(known), json.dumps(value)
                raise UsageError(
                    f"{run.where} was evaluated with {key} {now}, {where} with {was}; evaluate them alike."
                )
