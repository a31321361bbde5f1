"""A run that is killed, at whatever moment and in whatever setting, ends as if nobody had touched it."""

from __future__ import annotations

import random
from itertools import combinations, product
from pathlib import Path

import pytest

from tests import kills
from tests.conftest import Tiny

SETTINGS = kills.pairwise()


def moments(settings: kills.Settings) -> tuple[str, ...]:
    """The kinds of moments at which a run of these settings is killed, one after the other."""
    return tuple(kills.deaths(settings, random.Random(0), 1.0))


def test_the_settings_cover_each_other_and_every_moment_in_pairs() -> None:
    for a, b in combinations(kills.FACTORS, 2):
        assert {(settings[a], settings[b]) for settings in SETTINGS} == set(product((0, 1), repeat=2)), (a, b)
    assert sum(len(moments(settings)) for settings in SETTINGS) >= 20
    for factor, moment in product(kills.FACTORS, kills.MOMENTS):
        options = {settings[factor] for settings in SETTINGS if moment in moments(settings)}
        if (factor, moment) not in product(["ranks"], kills.OF_THE_FIRST_RANK):
            assert options == {0, 1}, (factor, moment)
    assert len(kills.everything()) == 2 ** len(kills.FACTORS)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_a_killed_run_ends_with_the_same_bits(number: int, tiny: Tiny, tmp_path: Path) -> None:
    killed, differ = kills.suffer(tiny.file, SETTINGS[number], tmp_path, random.Random(number))
    assert tuple(killed) == moments(SETTINGS[number])
    assert differ == []
