"""What the comparison of methods rests on: intervals, a paired test, its correction and its effect size. NumPy alone.

**The interval** is a bootstrap over training seeds, sites and cases. How the levels hang together decides how they are
drawn (Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8; Owen, *The pigeonhole
bootstrap*, 2007):

- Seeds and cases are *crossed*: every seed's model is tested on the same cases. So both are drawn, independently, and
  a draw weighs the whole table of seed × case. All sites share the draw of the seeds, for a model is tested on all.
- Cases are *nested* in sites: each site's are drawn among themselves.
- Sites. A claim about sites that nobody has seen needs them drawn too, and such is the interval of what is averaged
  over sites. Whoever asks about these sites alone holds them fixed (``sites="fixed"``); of a difference both are told.
- Each level of n units draws n − 1 of them (Rao and Wu, *Resampling inference with complex survey data*, 1988).
  Drawing n, as is usual, gives (n − 1)/n of the variance: a quarter too little at four sites, a third at three seeds.
  A level with a single unit is held fixed, and the interval then says nothing about it.

With that the interval errs on the wide side: the scatter of cases also enters the scatter of their sites' means. With
four sites it is coarse all the same. Draws are keyed by what is drawn: the same numbers give the same interval
everywhere, and methods that are tested on the same cases with the same seeds share their draws, so that a difference of
theirs is a paired one.

**The test** is Wilcoxon's signed-rank test on one number a case, its difference averaged over seeds (and over
sources): a case is what was drawn from a population, another seed on the same case is no further patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datamodules.randomness import numpy_generator

Array: TypeAlias = NDArray[np.float64]
Sites = Literal["drawn", "fixed"]

DRAWS = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; both ends are NaN where nothing could be drawn."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Scores:
    """One metric of one method.

    Attributes:
        values: K×N by source and site: K seeds, N cases, the order of the cases the same for all methods.
        seeds: the K seeds.
    """

    values: Mapping[tuple[str, str], Array]
    seeds: tuple[int, ...]

    def mean(self) -> float:
        """Mean over sources of the mean over sites of their cases and seeds."""
        return float(_over_sources(self, {pair: np.atleast_1d(v.mean()) for pair, v in self.values.items()}, None)[0])

    def case_means(self) -> dict[tuple[str, int], float]:
        """One number a case, by site and place: averaged over seeds, then over the sources it is tested with."""
        found: dict[tuple[str, int], list[float]] = {}
        for (_, site), values in self.values.items():
            for case, mean in enumerate(values.mean(axis=0)):
                found.setdefault((site, case), []).append(float(mean))
        return {key: float(np.mean(means)) for key, means in found.items()}

    def only(self, site: str) -> Scores:
        """What is known of one site."""
        return Scores({pair: values for pair, values in self.values.items() if pair[1] == site}, self.seeds)

    def of_seeds(self, seeds: Sequence[int]) -> Scores:
        """What is known by some of the seeds."""
        rows = [self.seeds.index(seed) for seed in seeds]
        return Scores({pair: values[rows] for pair, values in self.values.items()}, tuple(seeds))


def draws(scores: Scores, sites: Sites = "drawn", count: int = DRAWS) -> Array:
    """Bootstrap draws of :meth:`Scores.mean`, as many as ``count``; see the module for what is drawn."""
    of_seeds = _weights(len(scores.seeds), count, "seeds", *scores.seeds)
    means = {}
    for pair, values in scores.values.items():
        of_cases = _weights(values.shape[1], count, "cases", pair[1])
        means[pair] = ((of_seeds @ values) * of_cases).sum(axis=1)
    names = sorted({site for _, site in scores.values})
    drawn = sites == "drawn" and len(names) > 1
    of_sites = _weights(len(names), count, "sites", *names) if drawn else np.ones((count, len(names)))
    return _over_sources(scores, means, dict(zip(names, of_sites.T, strict=True)))


def estimate(scores: Scores, sites: Sites = "drawn", count: int = DRAWS) -> Estimate:
    """:meth:`Scores.mean` with its interval."""
    return interval(scores.mean(), draws(scores, sites, count))


def interval(value: float, drawn: Array) -> Estimate:
    """A number with the percentile interval of its draws."""
    kept = drawn[np.isfinite(drawn)]
    if not kept.size:
        return Estimate(value, np.nan, np.nan)
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))


@lru_cache(maxsize=64)
def _weights(units: int, count: int, *key: int | str) -> Array:
    """``count`` × ``units``: the share of each unit in each draw; rows sum to 1. All methods share them."""
    if units == 1:
        return np.ones((count, 1))
    generator = numpy_generator("bootstrap", *key)
    drawn: Array = generator.multinomial(units - 1, np.full(units, 1 / units), size=count) / (units - 1)
    drawn.flags.writeable = False
    return drawn


def _over_sources(
    scores: Scores, means: Mapping[tuple[str, str], Array], of_sites: Mapping[str, Array] | None
) -> Array:
    """Means of sites, weighed, into one number a source, and the mean of these.

    Sources are named by the study and never drawn. One none of whose sites came up in a draw is left out of that draw.
    """
    sources = []
    for source in dict.fromkeys(source for source, _ in scores.values):
        pairs = [pair for pair in scores.values if pair[0] == source]
        weights = [np.ones_like(means[pair]) if of_sites is None else of_sites[pair[1]] for pair in pairs]
        total = np.sum(weights, axis=0)
        weighed = np.sum([w * means[pair] for w, pair in zip(weights, pairs, strict=True)], axis=0)
        sources.append(np.divide(weighed, total, out=np.full_like(weighed, np.nan), where=total > 0))
    known = np.isfinite(sources)
    count = known.sum(axis=0)
    summed = np.where(known, sources, 0.0).sum(axis=0)
    mean: Array = np.divide(summed, count, out=np.full_like(summed, np.nan), where=count > 0)
    return mean


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that the differences lie about 0.

    Differences of 0 are left out, as Wilcoxon does; where all are 0, nothing speaks for a difference and p is 1. SciPy
    computes it: exactly for up to 50 differences of distinct sizes, else by the normal approximation.
    """
    kept = [value for value in differences if value != 0]
    if not kept:
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(kept, zero_method="wilcox", alternative="two-sided").pvalue)


def rank_biserial(differences: Sequence[float]) -> float:
    """Matched-pairs rank-biserial correlation: (R₊ − R₋) / (R₊ + R₋), of the ranks of the sizes of the differences.

    From −1, all are negative, to 1, all are positive (Kerby, *The simple difference formula*, 2014). Differences of 0
    are left out, as in the test; without any other it is 0.
    """
    kept = np.asarray([value for value in differences if value != 0], dtype=float)
    if not kept.size:
        return 0.0
    from scipy import stats

    ranks = stats.rankdata(np.abs(kept))
    return float(np.sum(ranks * np.sign(kept)) / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for that many comparisons (Holm, *A simple sequentially rejective procedure*, 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
