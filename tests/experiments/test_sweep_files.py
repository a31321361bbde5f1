"""Sweep files: W&B's format is read as W&B reads it, and a bad file is refused before the first trial, all at once."""

# ruff: noqa: E501 - a sentence and the mistake that it answers stand on one line
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.errors import ConfigurationErrors
from experiments.configuration import load_experiment
from experiments.locate import SHIPPED
from experiments.sweep.agent import understood
from experiments.sweep.opened import open_sweep

Command = Callable[..., tuple[int, str, str]]

GOOD = {
    "command": '[pansite, fit, phantom_dual_ssl, "${args_no_hyphens}"]',
    "method": "random",
    "metric": "{name: val/dice, goal: maximize}",
    "run_cap": "3",
    "parameters": "{model.contrastive.weight: {min: 0.1, max: 1.0}}",
}


def write(folder: Path, **lines: str | None) -> Path:
    """A sweep file with a key a line, some of them changed or left out."""
    path = folder / "s.yaml"
    path.write_text("".join(f"{key}: {text}\n" for key, text in {**GOOD, **lines}.items() if text is not None))
    return path


def faults(folder: Path, **lines: str | None) -> list[str]:
    with pytest.raises(ConfigurationErrors) as caught:
        open_sweep(str(write(folder, **lines)), [f"run.root={folder}"])
    assert not (folder / "sweeps").exists(), "nothing of a bad sweep is written"
    return [fault.replace(f"{folder}/", "") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ({"method": "baeys"}, "s.yaml:2: method: the method 'baeys' is not supported; did you mean 'bayes'?"),
        ({"method": None}, "s.yaml: method: is missing; choose one of grid, random, bayes."),
        ({"parameters": "{}"}, "s.yaml:5: parameters: is empty; name at least one key of an experiment."),
        ({"parameters": None}, "s.yaml: parameters: is missing; name the keys to be tried, each with values or min and max."),
        ({"parameters": "{model.contrastive.wieght: {value: 1}}"}, "s.yaml:5: model.contrastive.wieght: model.contrastive has no key 'wieght'; did you mean 'weight'?"),
        ({"parameters": "{model.contrastive.weight: {min: 2.0, max: 1.0}}"}, "s.yaml:5: model.contrastive.weight: min 2.0 is above max 1.0."),
        ({"parameters": "{model.contrastive.weight: {min: 1, max: 2.5}}"}, "s.yaml:5: model.contrastive.weight: min is whole and max is not, or the other way round; W&B wants both whole or both with a point."),
        ({"parameters": "{model.contrastive.weight: {min: 1e-3, max: 1.0}}"}, "s.yaml:5: model.contrastive.weight: min expects a number, not '1e-3', which YAML reads as text: write 1.0e-3."),
        ({"parameters": "{model.contrastive.weight: {values: []}}"}, "s.yaml:5: model.contrastive.weight: values is empty; list at least one."),
        ({"parameters": "{model.contrastive.weight: {}}"}, "s.yaml:5: model.contrastive.weight: says nothing of its values: give value, values, min and max, or a distribution."),
        ({"parameters": "{model.contrastive.weight: {values: [1, 2], probabilities: [0.5, 0.6]}}"}, "s.yaml:5: model.contrastive.weight: the probabilities sum to 1.1, not to 1."),
        ({"parameters": "{model.contrastive.weight: {distribution: cauchy, mu: 1}}"}, "s.yaml:5: model.contrastive.weight: the distribution 'cauchy' is not supported; known: constant, categorical, categorical_w_probabilities, int_uniform, uniform, q_uniform, log_uniform, log_uniform_values, inv_log_uniform, inv_log_uniform_values, q_log_uniform, q_log_uniform_values, normal, q_normal, log_normal, q_log_normal, beta, q_beta."),
        ({"parameters": "{model.contrastive.weight: {distribution: log_uniform_values, min: 0.0, max: 1.0}}"}, "s.yaml:5: model.contrastive.weight: log_uniform_values wants a min above 0, not 0.0."),
        ({"parameters": "{model.contrastive.weight: {min: 0.1, max: 1.0, step: 0.1}}"}, "s.yaml:5: model.contrastive.weight: W&B knows no 'step' of a parameter; known: distribution, value, values, probabilities, min, max, q, mu, sigma, a, b, parameters."),
        ({"parameters": "{model.contrastive.weight: {min: -1.0, max: 1.0}}"}, "s.yaml:5: model.contrastive.weight: must be 0 or more, not -1."),
        ({"parameters": "{seed: {values: [1, many]}}"}, "s.yaml:5: seed: expects a whole number, not 'many'."),
        ({"parameters": "{seed: {values: [0123]}}"}, "s.yaml:5: seed: YAML reads 0123 as 83; write '0123' in quotes, or 83."),
        ({"parameters": "{cluster.profile: {values: [1:30]}}"}, "s.yaml:5: cluster.profile: YAML reads 1:30 as 90; write '1:30' in quotes, or 90."),
        ({"parameters": "{trainer.devices: {values: [1, 2]}}"}, "s.yaml:5: trainer.devices: does not alter what is trained, so all its trials would be one run."),
        ({"method": "grid"}, "s.yaml:5: model.contrastive.weight: a grid can't be laid over uniform; give values, or take the method random or bayes."),
        ({"metric": "{name: val/dise, goal: maximize}"}, "s.yaml:3: metric.name: nothing is logged as 'val/dise'; did you mean 'val/dice'?"),
        ({"metric": "{name: val/dice}"}, "s.yaml:3: metric.goal: must be maximize for val/dice, which W&B takes for minimize where nothing is said."),
        ({"metric": None}, "s.yaml: metric: is missing; write {name: val/dice, goal: maximize}."),
        ({"command": None}, "s.yaml: command: is missing; write [pansite, fit, EXPERIMENT, '${args_no_hyphens}'], which names the experiment."),
        ({"command": '[pansite, fit, phantom_dual_ssl, "${arks}"]'}, "s.yaml:1: command: W&B has no macro ${arks}; known: ${args_no_hyphens}, ${args}, ${args_no_equals}, ${args_no_boolean_flags}, ${args_append_hydra}, ${args_override_hydra}, ${args_json}, ${args_json_file}."),
        ({"command": '[pansite, fit, phantom_dual_ssl, model.contrastive.weight=1, "${args}"]'}, "s.yaml:5: model.contrastive.weight: is set by the command too; leave it out of one."),
        ({"command": '[pansite, run, phantom_dual_ssl, "${args}"]'}, "s.yaml:1: command: a trial is `pansite fit`: the best alone is evaluated on held-out sites."),
        ({"run_cap": "0"}, "s.yaml:4: run_cap: expects a whole number of at least 1, not 0."),
        ({"early_terminate": "{type: median}"}, "s.yaml:6: early_terminate: the type 'median' is not supported; known: hyperband."),
        ({"early_terminate": "{type: hyperband}"}, "s.yaml:6: early_terminate: needs min_iter, or max_iter and s: numbers of validations."),
        ({"metrics": "[{name: a}]"}, "s.yaml:6: metrics: several objectives are not supported; give one as metric."),
        ({"methd": "grid"}, "s.yaml:6: methd: W&B knows no such key of a sweep; did you mean 'method'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_told(tmp_path: Path, lines: dict[str, str | None], sentence: str) -> None:
    assert faults(tmp_path, **lines) == [sentence]


def test_a_file_that_is_no_text_is_refused_as_one(tmp_path: Path, pansite: Command) -> None:
    (tmp_path / "s.yaml").write_bytes("method: größer".encode("latin-1"))
    code, _, err = pansite("sweep", tmp_path / "s.yaml", f"run.root={tmp_path}")
    assert (code, err) == (2, f"error: {tmp_path}/s.yaml: not a text file in UTF-8.\n")


def test_all_mistakes_are_told_at_once(tmp_path: Path, pansite: Command) -> None:
    path = write(tmp_path, method="baeys", run_cap="none", parameters="{seed: {min: 3, max: 1}, model.foo: {value: 1}}")
    code, _, err = pansite("sweep", path, f"run.root={tmp_path}")
    assert code == 2
    assert err.startswith("error: 4 faults in the configuration\n")
    assert "model.foo: model has no key 'foo'" in err


def test_nothing_sets_an_end(tmp_path: Path, pansite: Command) -> None:
    code, _, err = pansite("sweep", write(tmp_path, run_cap=None), f"run.root={tmp_path}")
    assert (code, "give --trials N or, in it, run_cap" in err) == (2, True)


def test_a_held_out_metric_is_refused_with_the_reason(tmp_path: Path, pansite: Command) -> None:
    metric = "{name: evaluation/held_out_macro/dice, goal: maximize}"
    path = write(tmp_path, metric=metric, command='[pansite, run, phantom_dual_ssl, "${args}"]')
    code, _, err = pansite("sweep", path, f"run.root={tmp_path}")
    assert code == 2
    assert "what is chosen by them is no longer judged by them" in err
    assert "--allow-peeking" in err
    assert not (tmp_path / "sweeps").exists()


def test_a_sweep_goes_on_only_as_it_was_begun(tmp_path: Path) -> None:
    words = [f"run.root={tmp_path}"]
    begun = open_sweep(str(write(tmp_path)), words)
    assert begun.folder == tmp_path / "sweeps" / "s"
    assert open_sweep(str(begun.folder), []).overrides == begun.overrides
    assert open_sweep(str(write(tmp_path, run_cap="9")), words).plan.run_cap == 9
    for change, said in (({"method": "bayes"}, "another method"), ({}, "another seed")):
        with pytest.raises(Exception, match=said):
            open_sweep(str(write(tmp_path, **change)), [*words, *(["seed=4"] if not change else [])])


@pytest.mark.parametrize("path", sorted((SHIPPED / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_sweep_holds_and_the_experiment_bears_it(path: Path, tmp_path: Path, pansite: Command) -> None:
    assert open_sweep(path.stem, [f"run.root={tmp_path}"]).plan.name == path.stem
    code, out, err = pansite("submit", "--sweep", path, "--array", "4%2", "--dry-run", f"run.root={tmp_path}")
    assert code == 0, err
    assert "#SBATCH --array=0-3%2\n" in out
    assert f"sweep {tmp_path}/sweeps/{path.stem} --next --trials " in out


MACROS = {
    "args_no_hyphens": ["model.optimizer.lr=0.01", "trainer.ema=None", "model.network.filters=[4, 8, 16]", "x.flag=True", "x.off=False"],
    "args": ["--model.optimizer.lr=0.01", "--trainer.ema=None", "--model.network.filters=[4, 8, 16]", "--x.flag=True", "--x.off=False"],
    "args_no_equals": ["--model.optimizer.lr", "0.01", "--trainer.ema", "None", "--model.network.filters", "[4, 8, 16]", "--x.flag", "True", "--x.off", "False"],
    "args_append_hydra": ["+model.optimizer.lr=0.01", "+trainer.ema=None", "+model.network.filters=[4, 8, 16]", "+x.flag=True", "+x.off=False"],
    "args_override_hydra": ["++model.optimizer.lr=0.01", "++trainer.ema=None", "++model.network.filters=[4, 8, 16]", "++x.flag=True", "++x.off=False"],
    "args_no_boolean_flags": ["--model.optimizer.lr=0.01", "--trainer.ema=None", "--model.network.filters=[4, 8, 16]", "--x.flag"],
    "args_json": ['{"model.optimizer.lr": 0.01, "trainer.ema": null, "model.network.filters": [4, 8, 16], "x.flag": true, "x.off": false}'],
    "args_json_file": ["wandb/sweep-abc/config-run1.json"],
    "": [],
}  # fmt: skip
VALUES = {
    "model.optimizer.lr": 0.01, "trainer.ema": None, "model.network.filters": [4, 8, 16], "x.flag": True, "x.off": False,
}  # fmt: skip


def test_the_macros_are_those_of_the_installed_wandb() -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    made = create_sweep_command_args({"args": {key: {"value": value} for key, value in VALUES.items()}})
    assert {name for name in made if name != "args_dict"} | {"args_json_file", ""} == set(MACROS)
    for name, words in MACROS.items():
        if name not in ("args_json_file", ""):
            assert made[name] == words


@pytest.mark.parametrize("macro", MACROS)
def test_every_macro_hands_every_parameter_on(macro: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.sdk.lib.config_util import save_config_file_from_dict

    from experiments.command_line import sort_words
    from experiments.configuration.faults import Faults
    from experiments.configuration.overrides import split_overrides

    file = tmp_path / "config.yaml"
    save_config_file_from_dict(str(file), {key: {"value": value} for key, value in VALUES.items()})
    for name, value in {"SWEEP_ID": "abc", "RUN_ID": "run1", "SWEEP_PARAM_PATH": str(file)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    words = sort_words(understood(["fit", "phantom_dual_ssl", *MACROS[macro]]))
    assert words.own == ["fit", "phantom_dual_ssl"]
    given = {each.key: each.text for each in split_overrides(words.overrides, Faults())}
    assert given == {key: str(value) for key, value in VALUES.items()}
    real = [word for word in words.overrides if not word.startswith("x.")]
    config = load_experiment(SHIPPED / "phantom_supervised.yaml", [*real, "data.patch_size=[16, 16, 16]"]).config
    assert (config.model.optimizer.lr, config.trainer.ema, list(config.model.network.filters)) == (
        0.01,
        None,
        [4, 8, 16],
    )  # type: ignore[attr-defined]


def test_without_an_agent_words_stay_as_they_are() -> None:
    words = ["fit", json.dumps({"a": 1}), "--flag"]
    assert understood(words) == words
