"""A split keeps patients together, depends on seed and patients alone, and a user's own is followed or refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.config import SplitConfig
from datamodules.errors import UsageError
from datamodules.split import Split, split_cases

CASES = [(f"case{k}", f"patient{k // 2}") for k in range(24)]
patients = st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 3), min_size=5, max_size=30)


@given(patients, st.integers(0, 99), st.integers(3, 5), st.randoms())
def test_patients_stay_together_and_the_order_of_cases_does_not_matter(
    sizes: dict[str, int], seed: int, folds: int, shuffle: random.Random
) -> None:
    cases = [(f"{patient}/{k}", patient) for patient, size in sizes.items() for k in range(size)]
    tested: list[str] = []
    for fold in range(folds):
        split = split_cases(cases, SplitConfig(folds=folds, fold=fold, seed=seed))
        parts = [split.train, split.validation, split.test]
        assert all(parts)
        assert sorted(case for part in parts for case in part) == sorted(case for case, _ in cases)
        owners = [{dict(cases)[case] for case in part} for part in parts]
        assert sum(len(owner) for owner in owners) == len(sizes)
        sides = sorted(len(owner) for owner in owners[1:])
        assert sides[1] - sides[0] <= 1
        shuffled = list(cases)
        shuffle.shuffle(shuffled)
        assert split_cases(shuffled, SplitConfig(folds=folds, fold=fold, seed=seed)) == split
        tested += split.test
    assert sorted(tested) == sorted(case for case, _ in cases)


def test_the_seed_chooses_who_comes_together() -> None:
    splits = {tuple(split_cases(CASES, SplitConfig(seed=seed)).test) for seed in range(10)}
    assert len(splits) > 5


def test_a_split_survives_json() -> None:
    split = split_cases(CASES, SplitConfig())
    assert Split.from_dict(json.loads(json.dumps(split.to_dict()))) == split


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SplitConfig(folds=2), "data.split.folds is 2: at least 3"),
        (SplitConfig(folds=4, fold=4), "data.split.fold is 4, and there are folds 0 to 3"),
        (SplitConfig(folds=13), "12 patients that can be used, too few for data.split.folds=13"),
    ],
)
def test_folds_that_can_not_be_made_are_refused(config: SplitConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split_cases(CASES, config)


def _own(folder: Path, content: Any) -> SplitConfig:
    path = folder / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return SplitConfig(file=str(path))


def test_a_users_split_is_followed_and_may_leave_cases_out(tmp_path: Path) -> None:
    config = _own(tmp_path, {"validation": ["case3", "case2"], "train": ["case0", "case1"]})
    assert split_cases(CASES, config) == Split(["case0", "case1"], ["case2", "case3"], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": ["case0"], "validation": ["case99", "x"]}, "does not have or that were excluded: case99, x"),
        ({"train": ["case0"], "validation": ["case0"]}, "case 'case0' in 'train' and in 'validation'"),
        ({"train": ["case0", "case0"], "validation": ["case2"]}, "case 'case0' in 'train' and in 'train'"),
        (
            {"train": ["case0"], "validation": ["case2"], "test": ["case1"]},
            "parts patient 'patient0': case 'case0' is in 'train' and case 'case1' in 'test'",
        ),
        ({"train": [], "validation": ["case2"]}, "has no cases in 'train'"),
        ({"train": ["case0"]}, "must hold a JSON object with the lists"),
        ({"train": ["case0"], "val": ["case2"]}, "must hold a JSON object with the lists"),
        ({"train": [0], "validation": ["case2"]}, "must hold a JSON object with the lists"),
        ("[", "can't be read as JSON"),
    ],
)
def test_a_users_split_that_can_not_be_followed_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    config = _own(tmp_path, content)
    with pytest.raises(UsageError, match=message) as caught:
        split_cases(CASES, config)
    assert str(config.file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_split_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.json can't be read"):
        split_cases(CASES, SplitConfig(file=str(tmp_path / "no.json")))
