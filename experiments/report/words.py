"""What was found, in a few plain sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from experiments.pages.words import count, number
from experiments.report.model import Results, SiteResult

_PRIOR = "a location prior, which knows only where a pancreas lies on average"


def worst_site(results: Results) -> SiteResult | None:
    """The held-out site of the lowest mean Dice."""
    rated = [site for site in results.held_out if math.isfinite(site.dice)]
    return min(rated, key=lambda site: site.dice, default=None)


def summary(results: Results) -> list[str]:
    """The findings, most important first, each a sentence."""
    sentences = [_source(results), _held_out(results)]
    worst = worst_site(results)
    if worst is not None and len(results.held_out) > 1:
        they = "They do" if results.outside else "It does"
        sentences.append(f"{they} worst on {worst.name}, with a mean Dice of {number(worst.dice)}.")
    sentences += [_failures(results.sites), _prior(results.sites), looks(results.looks), results.inexact]
    return [sentence for sentence in sentences if sentence]


def looks(taken: Mapping[str, int]) -> str:
    """How often the held-out sites were looked at before this evaluation, each by itself where they differ."""
    if not taken:
        return ""
    numbers = set(taken.values())
    sites = "This held-out site" if len(taken) == 1 else "These held-out sites"
    if numbers == {0}:
        return f"{sites} had never been looked at before."
    if len(numbers) == 1:
        return f"{sites} had been looked at {_times(numbers.pop())} before."
    told = [f"{site} {_times(number)}" for site, number in sorted(taken.items(), key=lambda item: -item[1])]
    return f"Before this evaluation the held-out sites had been looked at: {', '.join(told)}."


def _times(number: int) -> str:
    """``never``, ``once``, ``twice``, ``three times``."""
    return ("never", "once", "twice")[number] if number < 3 else count(number, "time")


def _source(results: Results) -> str:
    data = results.config.get("data") or {}
    name = results.source.name if results.source else (data.get("source") or {}).get("name", "the source")
    if results.outside:
        on = f" on the {count(results.source.n, 'test case')} of {name}" if results.source else ""
        reach = f" They reach a mean Dice of {number(results.source.dice)}{on}." if results.source else ""
        unknown = "what it was trained on is not known"
        return f"These are predictions of another tool, from {results.outside}; {unknown}.{reach}"
    if results.source is None:
        return f"The model was trained on {name} alone, of which no test cases were evaluated."
    return (
        f"Trained on {name} alone, the model reaches a mean Dice of {number(results.source.dice)} "
        f"on {count(results.source.n, 'case')} of that site that it had not seen."
    )


def _held_out(results: Results) -> str:
    if not results.held_out:
        return "No held-out site was evaluated."
    n = len(results.held_out)
    where = (
        f"On {count(n, 'held-out site')}, averaged site by site,"
        if n > 1
        else f"On the held-out site {results.held_out[0].name}"
    )
    text = f"{where} {'they reach' if results.outside else 'it reaches'} {number(results.macro.get('dice'))}"
    gap = results.gap.get("dice")
    if gap is None or not math.isfinite(gap):
        return f"{text}."
    side = "below" if gap >= 0 else "above"
    return f"{text}, which is {number(abs(gap))} {side} the source."


def _failures(sites: Sequence[SiteResult]) -> str:
    failures, cases = sum(site.failures for site in sites), sum(site.n for site in sites)
    if not failures:
        return f"None of the {cases} cases failed outright." if cases > 1 else ""
    where = ", ".join(f"{site.name} ({site.failures})" for site in sites if site.failures)
    return f"It failed outright on {failures} of {cases} cases: {where}."


def _prior(sites: Sequence[SiteResult]) -> str:
    known = [site for site in sites if site.location_prior is not None and math.isfinite(site.dice)]
    if not known:
        return ""
    beaten = [site for site in known if site.dice > (site.location_prior or 0.0)]
    if len(beaten) == len(known):
        return f"On every site it does better than {_PRIOR}."
    rest = ", ".join(site.name for site in known if site not in beaten)
    return f"On {rest} it does no better than {_PRIOR}."
