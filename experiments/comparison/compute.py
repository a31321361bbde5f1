"""From the pools of methods to the numbers of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datamodules.errors import UsageError
from experiments.comparison.measured import METRICS
from experiments.comparison.pool import FAILURE, Pair, Pool
from experiments.configuration.faults import did_you_mean
from experiments.statistics import Estimate, Scores, Sites, draws, estimate, holm, interval, rank_biserial, wilcoxon


@dataclass(frozen=True)
class Row:
    """A method in the table.

    Attributes:
        method: its name.
        seeds: it was trained with.
        macro: mean over held-out sites, by metric.
        failed: case-runs whose prediction or label alone is empty.
        tested: case-runs on held-out sites.
        failures: the share of these, mean over sites.
        worst: the held-out site of the lowest mean Dice.
        worst_dice: its Dice, of cases and seeds drawn anew.
        source_test: Dice on the source's own test cases, mean over sources; None where there are none.
        gap: source test − held-out macro Dice.
        validation: best Dice on source validation, mean over runs.
        matrix: Dice by source and site, the source's own test cases among them, of cases and seeds drawn anew.
    """

    method: str
    seeds: tuple[int, ...]
    macro: dict[str, Estimate]
    failed: int
    tested: int
    failures: Estimate
    worst: str
    worst_dice: Estimate
    source_test: Estimate | None
    gap: Estimate | None
    validation: float | None
    matrix: dict[Pair, Estimate]


@dataclass(frozen=True)
class Test:
    """A method against the reference in one metric, on held-out sites, case by case.

    Attributes:
        difference: of the held-out macro means, sites, seeds and cases drawn.
        fixed: the same with the sites held fixed.
        p: of Wilcoxon's signed-rank test over the cases.
        p_holm: the same, adjusted for all methods that are compared with the reference.
        rank_biserial: the effect's size.
    """

    difference: Estimate
    fixed: Estimate
    p: float
    p_holm: float
    rank_biserial: float


@dataclass(frozen=True)
class Against:
    """A method against the reference.

    Attributes:
        method: its name.
        tests: by metric.
        sites: difference in Dice by held-out site, cases and seeds drawn.
        source_test: difference in Dice on the source's own test cases.
        cases: (site, case, Dice of the reference, Dice of the method), averaged over seeds and sources.
    """

    method: str
    tests: dict[str, Test]
    sites: dict[str, Estimate]
    source_test: Estimate | None
    cases: tuple[tuple[str, str, float, float], ...]


@dataclass(frozen=True)
class Comparison:
    """The whole table.

    Attributes:
        title: of the page.
        about: what it is to show.
        look: ``dev`` or ``test``; empty where no study says.
        sites: held-out sites, in order.
        sources: sites that were trained on.
        tolerance: of the NSD, mm.
        smallest_piece: pieces of a predicted mask under this share of its largest were left out; 0 for none.
        rows: the methods.
        reference: the name of the one that the others are compared with.
        against: the others.
        notes: sentences on where the numbers come from.
        facts: what is known of each scan, by site and case.
    """

    title: str
    about: str
    look: str
    sites: tuple[str, ...]
    sources: tuple[str, ...]
    tolerance: float
    smallest_piece: float
    rows: tuple[Row, ...]
    reference: str
    against: tuple[Against, ...]
    notes: tuple[str, ...] = ()
    facts: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)


def compare(
    pools: Sequence[Pool], reference: str, title: str, about: str = "", look: str = "", notes: Sequence[str] = ()
) -> Comparison:
    """Compute the table.

    Args:
        pools: the methods, of the same cases.
        reference: the name of one of them.
        title: of the table.
        about: what it is to show.
        look: at which kind of sites. What is for choosing (``dev``) leaves the source's test cases out: they are for
            the final look as much as the test sites are.
        notes: where the numbers come from.

    Raises:
        UsageError: there is no such reference.
    """
    by_name = {pool.method: pool for pool in pools}
    if reference not in by_name:
        raise UsageError(f"there is no method {reference!r} to compare with; {did_you_mean(reference, by_name)}")
    final = look != "dev"
    pairs = list(by_name[reference].held_out["dice"].values)
    return Comparison(
        title,
        about,
        look,
        tuple(dict.fromkeys(site for _, site in pairs)),
        tuple(dict.fromkeys(source for source, _ in pairs)),
        by_name[reference].tolerance,
        by_name[reference].smallest_piece,
        tuple(_row(pool, final) for pool in pools),
        reference,
        _against(by_name[reference], [pool for pool in pools if pool.method != reference], final),
        tuple(notes),
        by_name[reference].facts,
    )


def _row(pool: Pool, final: bool) -> Row:
    dice, source = pool.held_out["dice"], pool.source_test["dice"]
    by_site = {site: dice.only(site) for site in dict.fromkeys(site for _, site in dice.values)}
    worst = min(by_site, key=lambda site: by_site[site].mean())
    tested = {**dice.values, **(source.values if final else {})}
    gap = (
        interval(source.mean() - dice.mean(), draws(source, "fixed") - draws(dice)) if final and source.values else None
    )
    return Row(
        method=pool.method,
        seeds=pool.seeds,
        macro={metric: estimate(pool.held_out[metric]) for metric in METRICS},
        failed=pool.failed,
        tested=pool.tested,
        failures=estimate(pool.held_out[FAILURE]),
        worst=worst,
        worst_dice=estimate(by_site[worst]),
        source_test=estimate(source, "fixed") if final and source.values else None,
        gap=gap,
        validation=pool.validation,
        matrix={pair: estimate(Scores({pair: values}, pool.seeds)) for pair, values in tested.items()},
    )


def _against(reference: Pool, others: Sequence[Pool], final: bool) -> tuple[Against, ...]:
    pairs = [_with_like_seeds(reference, other) for other in others]
    differences = {
        (other.method, metric): _paired(base.held_out[metric], other.held_out[metric])
        for base, other in pairs
        for metric in METRICS
    }
    p = {key: wilcoxon(list(found.values())) for key, found in differences.items()}
    adjusted: dict[tuple[str, str], float] = {}
    for metric in METRICS:
        keys = [(other.method, metric) for other in others]
        adjusted |= dict(zip(keys, holm([p[key] for key in keys]), strict=True))
    return tuple(
        Against(
            other.method,
            {
                metric: Test(
                    _difference(base.held_out[metric], other.held_out[metric]),
                    _difference(base.held_out[metric], other.held_out[metric], fixed=True),
                    p[other.method, metric],
                    adjusted[other.method, metric],
                    rank_biserial(list(differences[other.method, metric].values())),
                )
                for metric in METRICS
            },
            {
                site: _difference(base.held_out["dice"].only(site), other.held_out["dice"].only(site))
                for site in dict.fromkeys(site for _, site in base.held_out["dice"].values)
            },
            _difference(base.source_test["dice"], other.source_test["dice"], fixed=True)
            if final and base.source_test["dice"].values and other.source_test["dice"].values
            else None,
            _cases(base, other),
        )
        for base, other in pairs
    )


def _with_like_seeds(reference: Pool, other: Pool) -> tuple[Pool, Pool]:
    """Both by the seeds that they share: a seed has its own luck. All, where they share none."""
    both = [seed for seed in reference.seeds if seed in other.seeds]
    return (reference.of_seeds(both), other.of_seeds(both)) if both else (reference, other)


def _paired(reference: Scores, other: Scores) -> dict[tuple[str, int], float]:
    before, after = reference.case_means(), other.case_means()
    return {key: after[key] - before[key] for key in before}


def _difference(reference: Scores, other: Scores, fixed: bool = False) -> Estimate:
    sites: Sites = "fixed" if fixed else "drawn"
    return interval(other.mean() - reference.mean(), draws(other, sites) - draws(reference, sites))


def _cases(reference: Pool, other: Pool) -> tuple[tuple[str, str, float, float], ...]:
    before, after = reference.held_out["dice"].case_means(), other.held_out["dice"].case_means()
    names = {pair[1]: reference.cases[pair] for pair in reference.held_out["dice"].values}
    return tuple((site, names[site][place], value, after[site, place]) for (site, place), value in before.items())
