"""The space of a sweep: what W&B's distributions map to, by W&B's own scheduler and by an independent library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from scipy import stats
from wandb.sdk.sweeps.scheduler.optuna import sweep_parameter_to_distribution

from experiments.configuration.faults import Faults
from experiments.configuration.layers import parse_yaml
from experiments.sweep.early import Early, bands
from experiments.sweep.file import read_sweep
from experiments.sweep.metric import Metric
from experiments.sweep.parameters import Parameter, read_parameters
from experiments.sweep.pruning import WandbHyperband
from experiments.sweep.space import Dimension, dimension
from experiments.sweep.study import Study

NUMBERS = st.floats(-50, 50, allow_nan=False).map(lambda x: round(x, 3))
RANGES = st.tuples(NUMBERS, NUMBERS).filter(lambda ends: ends[0] < ends[1])
WHOLE = st.tuples(st.integers(-40, 40), st.integers(-40, 40)).filter(lambda ends: ends[0] < ends[1])
POSITIVE = st.tuples(st.floats(1e-4, 1.0), st.floats(1.5, 1e3))


def read(spec: dict[str, Any], method: str = "random") -> Parameter:
    """A parameter as its file says it, through the text of the file."""
    faults = Faults()
    node = parse_yaml(yaml.safe_dump({"a.b": spec}), "s.yaml", faults)
    assert node is not None
    (parameter,) = read_parameters(node, method, faults)
    faults.raise_any()
    return parameter


def mapped(spec: dict[str, Any]) -> Dimension:
    return dimension(read(spec))


LIKE_WANDB = st.one_of(
    RANGES.map(lambda e: {"min": e[0], "max": e[1]}),
    RANGES.map(lambda e: {"distribution": "uniform", "min": e[0], "max": e[1]}),
    WHOLE.map(lambda e: {"min": e[0], "max": e[1]}),
    WHOLE.map(lambda e: {"distribution": "int_uniform", "min": e[0], "max": e[1]}),
    POSITIVE.map(lambda e: {"distribution": "log_uniform_values", "min": e[0], "max": e[1]}),
    WHOLE.map(lambda e: {"distribution": "q_uniform", "min": e[0], "max": e[1]}),
    st.tuples(WHOLE, st.integers(1, 7)).map(
        lambda e: {"distribution": "q_uniform", "min": e[0][0], "max": e[0][1], "q": e[1]}
    ),
    st.tuples(RANGES, st.sampled_from([0.5, 0.25, 2.0])).map(
        lambda e: {"distribution": "q_uniform", "min": e[0][0], "max": e[0][1], "q": e[1]}
    ),
    st.tuples(st.integers(1, 9), st.integers(10, 99)).map(
        lambda e: {"distribution": "q_log_uniform_values", "min": e[0], "max": e[1], "q": 1}
    ),
    st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["x", "None", "0123"])), min_size=1, unique_by=repr).map(
        lambda values: {"values": values}
    ),
)


@pytest.mark.filterwarnings("ignore:The distribution is specified by")
@settings(max_examples=80)
@given(LIKE_WANDB)
def test_what_optuna_has_maps_as_in_wandbs_own_scheduler(spec: dict[str, Any]) -> None:
    ours = mapped(spec)
    assert ours.distribution == sweep_parameter_to_distribution(spec)
    for value in ours.grid if not isinstance(ours.distribution, FloatDistribution) else []:
        assert ours.value(value) == value


def test_a_rounding_that_wandb_drops_is_kept() -> None:
    spec = {"distribution": "q_log_uniform_values", "min": 0.1, "max": 100.0, "q": 0.5}
    ours = mapped(spec)
    assert ours.distribution == FloatDistribution(0.1, 100.0, log=True) == sweep_parameter_to_distribution(spec)
    assert [ours.value(x) for x in (0.1, 0.8, 99.7)] == [0.0, 1.0, 99.5]


PPF: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "normal": ({"mu": 2.0, "sigma": 0.5}, stats.norm(2.0, 0.5).ppf),
    "log_normal": ({"mu": 1.0, "sigma": 0.3}, stats.lognorm(s=0.3, scale=np.e).ppf),
    "beta": ({"a": 2, "b": 5}, stats.beta(2, 5).ppf),
    "q_normal": ({"mu": 2.0, "sigma": 5.0, "q": 0.25}, lambda u: np.round(stats.norm(2.0, 5.0).ppf(u) / 0.25) * 0.25),
    "q_log_normal": ({"sigma": 1.0}, lambda u: np.round(stats.lognorm(s=1.0).ppf(u))),
    "q_beta": ({"a": 2, "b": 5, "q": 0.1}, lambda u: np.round(stats.beta(2, 5).ppf(u) / 0.1) * 0.1),
}


@pytest.mark.parametrize("name", PPF)
def test_what_optuna_lacks_is_drawn_by_its_quantile(name: str) -> None:
    spec, ppf = PPF[name]
    with pytest.raises(ValueError, match="no optuna equivalent"):
        sweep_parameter_to_distribution({"distribution": name, **spec})
    ours = mapped({"distribution": name, **spec})
    assert ours.distribution == FloatDistribution(0, 1)
    quantiles = np.linspace(0.013, 0.987, 23)
    np.testing.assert_allclose([ours.value(u) for u in quantiles], ppf(quantiles), rtol=1e-6, atol=1e-9)
    assert all(np.isfinite([ours.value(0.0), ours.value(1.0)]))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any), st.floats(0, 1))
def test_values_come_by_their_probabilities(weights: list[int], quantile: float) -> None:
    shares = [weight / sum(weights) for weight in weights]
    values = [[number, 8] for number in range(len(shares))]
    ours = mapped({"values": values, "probabilities": shares})
    drawn = ours.value(quantile)
    assert shares[drawn[0]] > 0
    even = [ours.value((k + 0.5) / 1000)[0] for k in range(1000)]
    np.testing.assert_allclose(np.bincount(even, minlength=len(shares)) / 1000, shares, atol=0.002)


@pytest.mark.parametrize(
    ("name", "ends", "low", "high"),
    [("log_uniform", (-2.0, 1.0), np.exp(-2), np.e), ("inv_log_uniform", (-2.0, 1.0), np.exp(-1), np.exp(2)),
     ("inv_log_uniform_values", (0.1, 10.0), 0.1, 10.0), ("q_log_uniform", (0.0, 4.0), 1.0, np.exp(4))],
)  # fmt: skip
def test_logarithms_are_uniform_between_the_ends(name: str, ends: tuple[float, float], low: float, high: float) -> None:
    ours = mapped({"distribution": name, "min": ends[0], "max": ends[1]}).distribution
    assert isinstance(ours, FloatDistribution)
    assert ours.log
    np.testing.assert_allclose([ours.low, ours.high], [low, high])


def test_lists_become_the_text_that_an_agent_hands_on() -> None:
    assert mapped({"values": [[4, 8], None]}).distribution == CategoricalDistribution(["[4, 8]", "None"])


def test_hyperband_has_wandbs_bands() -> None:
    """As the documentation of W&B has them."""
    assert bands({"min_iter": 3}, 3)[:4] == [3, 9, 27, 81]
    assert bands({"max_iter": 27, "s": 2}, 3) == [3, 9]
    assert bands({"max_iter": 5, "s": 2}, 2) == [1, 2]


@pytest.mark.parametrize("sign", [1, -1])
def test_hyperband_stops_what_wandbs_stops(sign: int) -> None:
    """The curves of the example in W&B's engine, whose bands are 1 and 2."""
    curves = {"a": [10, 9], "b": [10, 10], "c": [10, 8, 8], "d": [10, 7, 7], "e": [10, 6, 6]}
    study = optuna.create_study(direction="minimize" if sign == 1 else "maximize")
    pruner = WandbHyperband(Early((1, 2), 2, strict=False))
    for curve in curves.values():
        trial = study.ask()
        for step, value in enumerate(curve, start=1):
            trial.report(sign * value, step)
    # The threshold at band 2 is 8; a is stopped by it as well, had it not ended before.
    stopped = [name for name, trial in zip(curves, study.get_trials(), strict=True) if pruner.prune(study, trial)]
    assert stopped == ["a", "b"]


def sweep_of(folder: Path, method: str, parameters: str, more: str = "") -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "s.yaml"
    command, metric = '[pansite, fit, phantom_quick, "${args}"]', "{name: val/dice, goal: maximize}"
    file.write_text(f"method: {method}\nmetric: {metric}\ncommand: {command}\nparameters: {parameters}\n{more}")
    faults = Faults()
    plan = read_sweep(file, faults)
    faults.raise_any()
    assert plan is not None
    return Study(folder, plan, seed=7)


def test_a_grid_is_walked_once_by_two_that_take_turns(tmp_path: Path) -> None:
    grid = "{seed: {values: [1, 2]}, trainer.ema: {values: [None, 0.9]}, data.split.fold: {min: 0, max: 2}}"
    two = [sweep_of(tmp_path, "grid", grid) for _ in range(2)]
    assert two[0].size == 12
    taken = []
    while (trial := two[len(taken) % 2].take(12)) is not None:
        taken.append(trial.words)
    assert len(set(taken)) == 12
    assert ("seed=1", "trainer.ema=None", "data.split.fold=0") in taken


def test_random_search_draws_alike_whoever_draws(tmp_path: Path) -> None:
    space = "{model.optimizer.lr: {distribution: log_uniform_values, min: 0.001, max: 0.1}}"
    one, two = sweep_of(tmp_path / "one", "random", space), sweep_of(tmp_path / "two", "random", space)
    drawn = [one.take(4) for _ in range(4)]
    again = [two.take(2), two.take(2), *[sweep_of(tmp_path / "two", "random", space).take(4) for _ in range(2)]]
    assert [trial.words for trial in drawn if trial] == [trial.words for trial in again if trial]
    assert len({trial.words for trial in drawn if trial}) == 4
    assert one.take(4) is None


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_nested_parameters_and_constants_become_dotted_words(tmp_path: Path, method: str) -> None:
    nested = "{model: {parameters: {optimizer: {parameters: {lr: {value: 0.5}}}}}, seed: {values: [3]}}"
    study = sweep_of(tmp_path, method, nested)
    taken = study.take(1)
    assert taken is not None
    assert taken.words == ("model.optimizer.lr=0.5", "seed=3")
    assert any("TPESampler" in line for line in study.mapping()) is (method == "bayes")


def test_no_trial_is_begun_once_the_target_is_reached(tmp_path: Path) -> None:
    study = sweep_of(tmp_path, "random", "{seed: {min: 0, max: 9}}")
    plan = replace(study.plan, metric=Metric("val/dice", maximize=True, target=0.8))
    study = Study(tmp_path, plan, seed=7)
    for value in (0.5, 0.8):
        trial = study.take(5)
        assert trial is not None
        study.tell(trial.number, value, optuna.trial.TrialState.COMPLETE)
    assert study.take(5) is None


def test_an_unfinished_line_of_the_journal_is_dropped(tmp_path: Path) -> None:
    study = sweep_of(tmp_path, "random", "{seed: {min: 0, max: 9}}")
    assert study.take(3) is not None
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    study = sweep_of(tmp_path, "random", "{seed: {min: 0, max: 9}}")
    trial = study.take(3)
    assert trial is not None
    assert (trial.number, len(study.shown())) == (1, 2)
