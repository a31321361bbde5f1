"""The comparison's statistics against their definitions, written out another way."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.statistics import Scores, draws, estimate, holm, interval, rank_biserial, wilcoxon

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)
DIFFERENCES = st.lists(st.integers(-40, 40), min_size=1, max_size=9)


def ranks(sizes: list[float]) -> list[float]:
    """Mean rank of each size, by counting."""
    return [sum(o < s for o in sizes) + (sum(o == s for o in sizes) + 1) / 2 for s in sizes]


@given(P_VALUES)
def test_holm_is_the_closed_test_of_bonferronis(p_values: list[float]) -> None:
    # A hypothesis falls when Bonferroni rejects every set of hypotheses that it belongs to.
    places = range(len(p_values))
    sets = [chosen for size in range(1, len(p_values) + 1) for chosen in combinations(places, size)]
    closed = [
        max(min(1.0, len(chosen) * min(p_values[other] for other in chosen)) for chosen in sets if place in chosen)
        for place in places
    ]
    assert holm(p_values) == pytest.approx(closed)


@settings(max_examples=30)
@given(DIFFERENCES.filter(lambda d: len({abs(x) for x in d}) == len(d) and 0 not in d))
def test_wilcoxon_counts_the_signs_that_chance_could_have_dealt(differences: list[int]) -> None:
    sizes = ranks([abs(value) for value in differences])
    total = sum(sizes)

    def distance(signs: tuple[int, ...]) -> float:
        return abs(sum(rank for rank, sign in zip(sizes, signs, strict=True) if sign > 0) - total / 2)

    seen = distance(tuple(int(np.sign(value)) for value in differences))
    dealt = [distance(signs) for signs in product((-1, 1), repeat=len(differences))]
    assert wilcoxon(differences) == pytest.approx(sum(d >= seen - 1e-9 for d in dealt) / len(dealt))


@settings(max_examples=30)
@given(DIFFERENCES)
def test_rank_biserial_is_the_share_of_favourable_ranks_less_that_of_the_others(differences: list[int]) -> None:
    kept = [value for value in differences if value]
    of = ranks([abs(value) for value in kept])
    favourable = sum(rank for rank, value in zip(of, kept, strict=True) if value > 0)
    expected = (favourable - (sum(of) - favourable)) / sum(of) if kept else 0.0
    assert rank_biserial(differences) == pytest.approx(expected)
    assert rank_biserial([-value for value in differences]) == pytest.approx(-expected)


def test_no_difference_anywhere_speaks_for_none() -> None:
    assert wilcoxon([0.0, 0.0, 0.0]) == 1.0
    assert rank_biserial([0.0, 0.0]) == 0.0


def scores(rng: np.random.Generator, seeds: int = 3, cases: int = 12, sites: int = 4, offset: float = 0.0) -> Scores:
    """Scores with an effect of the seed, of the site, and of the case, each normal."""
    of_seeds = rng.normal(0, 0.02, (seeds, 1))
    values = {
        ("here", f"site{number}"): offset
        + of_seeds
        + rng.normal(0, 0.05)
        + rng.normal(0, 0.1, (1, cases))
        + rng.normal(0, 0.03, (seeds, cases))
        for number in range(sites)
    }
    return Scores(values, tuple(range(seeds)))


def test_the_mean_is_over_sources_then_sites_then_cases() -> None:
    one, two, three = np.full((2, 3), 0.9), np.full((2, 1), 0.3), np.full((2, 5), 0.5)
    found = Scores({("a", "b"): one, ("a", "c"): two, ("b", "c"): three}, (0, 1))
    assert found.mean() == pytest.approx(((0.9 + 0.3) / 2 + 0.5) / 2)
    # A case of c is tested with two sources.
    assert found.case_means()[("c", 0)] == pytest.approx(0.4)
    assert found.only("c").mean() == pytest.approx(0.4)


@pytest.mark.parametrize(("seeds", "cases", "sites"), [(1, 12, 4), (3, 1, 4), (3, 12, 1)])
def test_draws_have_the_mean_and_the_variance_that_each_level_has(seeds: int, cases: int, sites: int) -> None:
    found = scores(np.random.default_rng(5), seeds, cases, sites)
    drawn = draws(found, "fixed", 40_000)
    table = np.stack(list(found.values.values()))  # site × seed × case
    assert drawn.mean() == pytest.approx(found.mean(), abs=1e-3)
    # The textbook's: of cases within sites, of seeds over all sites.
    of_cases = table.mean(axis=1).var(axis=1, ddof=1) / cases if cases > 1 else np.zeros(sites)
    of_seeds = table.mean(axis=(0, 2)).var(ddof=1) / seeds if seeds > 1 else 0.0
    least = of_cases.sum() / sites**2 + of_seeds
    assert drawn.var() == pytest.approx(least, rel=0.25)
    assert drawn.var() > 0.97 * least


def test_drawing_sites_adds_the_variance_of_their_means() -> None:
    found = scores(np.random.default_rng(6), seeds=1)
    fixed, drawn = draws(found, "fixed", 40_000), draws(found, "drawn", 40_000)
    means = np.array([values.mean() for values in found.values.values()])
    assert drawn.var() - fixed.var() == pytest.approx(means.var(ddof=1) / 4, rel=0.35)


def test_an_interval_of_drawn_sites_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    hits = [
        low <= 0 <= high
        for low, high in ((e.low, e.high) for e in (estimate(scores(rng), count=600) for _ in range(200)))
    ]
    assert 0.85 < np.mean(hits) <= 1.0


def test_the_same_numbers_give_the_same_interval_and_paired_methods_share_their_draws() -> None:
    found = scores(np.random.default_rng(8))
    assert estimate(found) == estimate(found)
    better = Scores({pair: values + 0.036 for pair, values in found.values.items()}, found.seeds)
    gained = interval(better.mean() - found.mean(), draws(better) - draws(found))
    assert (gained.value, gained.low, gained.high) == pytest.approx((0.036, 0.036, 0.036))
    others = Scores(found.values, (7, 8, 9))
    assert np.std(draws(others) - draws(found)) > 0, "other seeds are drawn apart"


def test_a_single_seed_site_and_case_has_no_width() -> None:
    found = Scores({("here", "there"): np.array([[0.7]])}, (0,))
    assert estimate(found) == interval(0.7, np.array([0.7]))


def test_a_source_whose_sites_did_not_come_up_is_left_out_of_the_draw() -> None:
    crossed = Scores({("a", "b"): np.full((2, 4), 0.9), ("b", "a"): np.full((2, 4), 0.1)}, (0, 1))
    drawn = draws(crossed)
    assert np.isfinite(drawn).all()
    assert set(np.round(drawn, 6)) == {0.1, 0.9}
    assert math.isnan(interval(0.5, np.array([np.nan])).low)
