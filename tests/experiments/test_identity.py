"""The id of a run changes with what alters the trained weights, and with nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.configuration.schema import every_key
from experiments.identity import ALTERING, BY_CONTENT, INDIFFERENT, WHERE_ON, configured, run_id

CASES = [("a", "p1", "00"), ("b", "p2", "11"), ("c", "p2", "22")]
SPLIT = {"train": ["a"], "validation": ["b"], "test": ["c"]}
SPACING = (1.0, 1.0, 2.5)


def identify(config: ExperimentConfig, **changes: Any) -> str:
    arguments = {"cases": CASES, "spacing": SPACING, "split": SPLIT, "init_digest": None, **changes}
    return run_id(config, **arguments)


def changed(key: str, value: Any) -> ExperimentConfig:
    config = ExperimentConfig(name="a")
    *path, last = key.split(".")
    section: Any = config
    for part in path:
        section = getattr(section, part)
    setattr(section, last, value)
    return config


def leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(section):
        value, key = getattr(section, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def another(value: Any) -> Any:
    """A value of the same kind that differs."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, tuple | list):
        return type(value)([another(value[0]), *value[1:]] if value else [1])
    return {**value, "another": 1.0} if isinstance(value, dict) else 0.5


def covered(key: str, keys: frozenset[str]) -> bool:
    return any(key == known or key.startswith(f"{known}.") for known in keys)


REFERENCE = identify(ExperimentConfig(name="a"))
LEAVES = dict(leaves(ExperimentConfig(name="a")))
SWITCHES = {"model.consistency.weight", "model.skeleton.weight", "model.fusion", "model.features.name"}


def alters(key: str) -> bool:
    return covered(key, ALTERING) or key in SWITCHES


def test_every_key_is_classified_once() -> None:
    for key in (key.path.replace("data.held_out.*", "data.held_out") for key in every_key()):
        kinds = [covered(key, keys) for keys in (ALTERING, WHERE_ON, BY_CONTENT, INDIFFERENT)]
        if key != "data.source.labels":
            assert sum(kinds) == 1, f"{key}: say in experiments/identity.py whether it alters the trained weights"


def test_no_classified_key_is_a_ghost() -> None:
    known = {key.path.replace("data.held_out.*", "data.held_out") for key in every_key()}
    for listed in ALTERING | WHERE_ON | BY_CONTENT | INDIFFERENT:
        assert any(key == listed or key.startswith(f"{listed}.") for key in known), listed


@pytest.mark.parametrize("key", sorted(filter(alters, LEAVES)))
def test_what_alters_the_weights_alters_the_id(key: str) -> None:
    assert identify(changed(key, another(LEAVES[key]))) != REFERENCE


@pytest.mark.parametrize("key", sorted(key for key in LEAVES if not alters(key) and key != "model.init"))
def test_what_does_not_alter_the_weights_does_not_alter_the_id(key: str) -> None:
    assert identify(changed(key, another(LEAVES[key]))) == REFERENCE


def test_the_cases_count_by_their_content_and_the_split_by_its_parts() -> None:
    config = ExperimentConfig(name="a")
    assert identify(config, cases=CASES[:2]) != REFERENCE
    assert identify(config, cases=[*CASES[:2], ("c", "p2", "33")]) != REFERENCE
    assert identify(config, spacing=(1.0, 1.0, 2.4)) != REFERENCE
    assert identify(config, split={"train": ["b"], "validation": ["a"], "test": ["c"]}) != REFERENCE


@given(st.integers(0, 2**32))
def test_the_order_of_cases_and_the_names_of_patients_do_not_matter(seed: int) -> None:
    shuffled = [(case, f"{patient}{seed}", digest) for case, patient, digest in CASES]
    random.Random(seed).shuffle(shuffled)
    assert identify(ExperimentConfig(name="a"), cases=shuffled) == REFERENCE


def test_a_spacing_that_was_found_equals_the_same_that_was_given() -> None:
    assert identify(changed("data.spacing", SPACING)) == REFERENCE
    assert identify(ExperimentConfig(name="a"), spacing=[1, 1, 2.5]) == REFERENCE


@pytest.mark.parametrize("term", ["contrastive", "restoration"])
def test_what_lies_below_a_term_that_is_switched_off_does_not_matter(term: str) -> None:
    off = changed(f"model.{term}.weight", 0.0)
    other = changed(f"model.{term}.weight", 0.0)
    getattr(other.model, term).ramp = 0.9
    assert identify(other) == identify(off) != REFERENCE


def test_a_rival_term_counts_with_all_that_lies_below_it_where_it_is_switched_on() -> None:
    for term in ("consistency", "skeleton"):
        on, other = (changed(f"model.{term}.weight", 1.0) for _ in range(2))
        getattr(other.model, term).ramp = 0.9
        assert len({REFERENCE, identify(on), identify(other)}) == 3


def test_a_run_from_before_the_rivals_keeps_its_id() -> None:
    assert not WHERE_ON & configured(ExperimentConfig(name="a")).keys()


def test_initial_weights_count_by_their_content() -> None:
    one, two = changed("model.init", "/here"), changed("model.init", "/there")
    assert identify(one, init_digest="ab") == identify(two, init_digest="ab") != REFERENCE
    assert identify(one, init_digest="ab") != identify(one, init_digest="cd")
    with pytest.raises(ValueError, match=r"model\.init"):
        identify(one)
    with pytest.raises(ValueError, match=r"model\.init"):
        identify(ExperimentConfig(name="a"), init_digest="ab")


def test_held_out_sites_can_be_added_later_and_the_id_survives_config_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nmodel: {optimizer: {lr: 3e-4}}\n", encoding="utf-8")
    first = load_experiment(path)
    path.write_text(first.yaml, encoding="utf-8")
    later = load_experiment(path, ["data.held_out.x={layout: manifest, root: /x.csv}", "data.workers=2"])
    assert identify(later.config) == identify(first.config)


def test_the_id_is_short_and_stable() -> None:
    assert len(REFERENCE) == 10
    assert set(REFERENCE) <= set("0123456789abcdef")
    config = ExperimentConfig(name="a")
    assert identify(replace(config, name="b")) == REFERENCE
