"""Overrides arrive as text, by hand or from a sweep, and are read by the type of their key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.errors import ConfigurationErrors
from experiments.configuration import load_experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overrides") / "a.yaml"
    path.write_text("name: a\nseed: 7\n", encoding="utf-8")
    return path


def value(experiment: Path, key: str, *overrides: str) -> Any:
    found: Any = load_experiment(experiment, overrides).resolved
    for part in key.split("."):
        found = found[part]
    return found


@pytest.mark.parametrize("form", [["{}={}"], ["--{}={}"], ["++{}={}"], ["--{}", "{}"]])
def test_the_four_forms(experiment: Path, form: list[str]) -> None:
    words = " ".join(form).format("trainer.max_steps", "12").split(" ")
    loaded = load_experiment(experiment, words)
    assert loaded.config.trainer.max_steps == 12
    assert loaded.overrides == ["trainer.max_steps=12"]


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("data.spacing", "None", None),
        ("data.spacing", "null", None),
        ("data.spacing", "[1, 1.5, 2]", (1.0, 1.5, 2.0)),
        ("data.patch_size", "(32, 48, 64)", (32, 48, 64)),
        ("data.patch_size", "32,48,64", (32, 48, 64)),
        ("model.network.filters", "[8, 16, 32]", (8, 16, 32)),
        ("model.network", "{'name': 'dynunet', 'filters': [8, 16, 32], 'residual': True}",
         {"name": "dynunet", "filters": (8, 16, 32), "residual": True, "deep_supervision": False}),
        ("model.optimizer.name", "sgd", "sgd"),
        ("model.init", "None", None),
        ("seed", "0123", 123),
        ("seed", "8.0", 8),
        ("trainer.max_steps", "1e3", 1000),
        ("logging.project", "0123", "0123"),
        ("logging.project", "1:30", "1:30"),
        ("logging.project", "True", "True"),
        ("logging.project", "[a]", "[a]"),
        ("logging.project", "", ""),
        ("logging.project", "a=b c", "a=b c"),
        ("trainer.compile", "true", True),
        ("trainer.compile", "True", True),
        ("trainer.compile", "1", True),
        ("trainer.compile", "off", False),
        ("trainer.ema", "None", None),
        ("trainer.ema", "0.99", 0.99),
        ("trainer.precision", "32", "32"),
        ("model.contrastive.structure", "none", "none"),
        ("model.optimizer.lr", "1e-3", 0.001),
        ("data.window", "[-100, 2.4e2]", (-100.0, 240.0)),
        ("model.restoration.corruption.operators.blur", "0", 0.0),
    ],
)  # fmt: skip
def test_text_is_read_by_the_keys_type(experiment: Path, key: str, text: str, expected: Any) -> None:
    found = value(experiment, key, f"{key}={text}")
    assert found == expected
    assert type(found) is type(expected)


def test_a_components_bare_name_chooses_it(experiment: Path) -> None:
    assert value(experiment, "model.optimizer", "model.optimizer=sgd")["momentum"] == 0.99
    assert value(experiment, "model.optimizer", "--model.optimizer", "sgd", "model.optimizer.lr=1")["lr"] == 1.0


def test_one_operators_weight_leaves_the_others(experiment: Path) -> None:
    key = "model.restoration.corruption.operators"
    assert value(experiment, key, f"{key}.blur=0") == {**value(experiment, key), "blur": 0.0}


def test_later_overrides_win(experiment: Path) -> None:
    assert value(experiment, "seed", "seed=1", "--seed", "2") == 2


def test_what_wandb_adds_for_itself_is_dropped(experiment: Path) -> None:
    loaded = load_experiment(experiment, ["_wandb={'a': 1}", "--_wandb", "{}", "_wandb.x=3", "seed=3"])
    assert loaded.overrides == ["seed=3"]


def test_a_negative_number_may_follow_its_key(experiment: Path) -> None:
    assert value(experiment, "data.window", "--data.window", "-50,50") == (-50.0, 50.0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["seed"], "override 'seed': has no value; write KEY=VALUE."),
        (["--seed"], "override '--seed': has no value; write --seed=VALUE."),
        (["--seed", "--trainer.devices=1"], "override '--seed': has no value; write --seed=VALUE."),
        (["=3"], "override '=3': has no key; write KEY=VALUE, with dots between nested keys."),
        (["data..store=3"], "override 'data..store=3': has no key"),
    ],
)
def test_an_override_that_is_none(experiment: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationErrors) as caught:
        load_experiment(experiment, words)
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith(sentence)


@settings(max_examples=30, deadline=None)
@given(
    filters=st.lists(st.integers(1, 512), min_size=3, max_size=5),
    window=st.tuples(st.floats(-1000, -1), st.floats(0, 3000)),
    lr=st.floats(1e-9, 10),
    flag=st.booleans(),
    ema=st.none() | st.floats(0.1, 0.999),
)
def test_pythons_own_spelling_of_a_value_is_understood(
    experiment: Path, filters: list[int], window: tuple[float, float], lr: float, flag: bool, ema: float | None
) -> None:
    """A sweep agent passes ``str(value)``."""
    config = load_experiment(
        experiment,
        [
            f"model.network={ {'name': 'dynunet', 'filters': filters, 'residual': flag} }",
            f"data.window={window}",
            f"model.optimizer.lr={lr}",
            f"trainer.ema={ema}",
        ],
    ).config
    assert config.model.network.filters == tuple(filters)  # type: ignore[attr-defined]  # DynUNet's own
    assert config.model.network.residual is flag  # type: ignore[attr-defined]
    assert (config.data.window, config.model.optimizer.lr, config.trainer.ema) == (window, lr, ema)
