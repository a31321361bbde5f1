"""Layers over each other: what an experiment says once its bases, its own keys and its overrides are merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from datamodules.errors import ConfigurationErrors
from experiments.config import TrainerConfig
from experiments.configuration import Loaded, load_experiment
from experiments.locate import SHIPPED

Write = Callable[..., Path]
SMALL = "name: small\ndata: {patch_size: [32, 32, 32], source: {layout: msd, root: /data/msd}}\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str, name: str = "experiment.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def load(path: Path, *overrides: str) -> Loaded:
    return load_experiment(path, overrides)


def test_later_layers_win_key_by_key(write: Write) -> None:
    write(
        "name: low\nseed: 1\ntrainer: {max_steps: 10, devices: 2, ema: 0.9}\ndata: {batch_size: 4}",
        "bases/low.yaml",
    )
    write("seed: 2\ntrainer: {max_steps: 20}", "bases/high.yaml")
    path = write("extends: [bases/low.yaml, bases/high.yaml]\ntrainer: {ema: null}\n")
    config = load(path, "trainer.log_every=7").config
    assert (config.name, config.seed) == ("low", 2)
    assert (config.trainer.max_steps, config.trainer.devices, config.trainer.log_every) == (20, 2, 7)
    assert config.trainer.ema is None


def test_extends_is_relative_to_the_file_that_says_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("seed: 5", "deep/er/ground.yaml")
    write("extends: er/ground.yaml", "deep/base.yaml")
    absolute = write("trainer: {max_steps: 3}", "elsewhere/absolute.yaml")
    home = write("logging: {project: at_home}", "home/own.yaml").parent
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    config = load(write(f"name: a\nextends: [deep/base.yaml, {absolute}, ~/own.yaml]")).config
    assert (config.seed, config.trainer.max_steps, config.logging.project) == (5, 3, "at_home")


def test_what_comes_with_the_package_can_be_extended_unless_an_own_file_has_that_name(write: Write) -> None:
    mine = write("extends: bases/supervised.yaml\nname: mine\ndata: {patch_size: [32, 32, 32]}")
    assert load(mine).config.model.contrastive.weight == 0
    write("model: {contrastive: {weight: 0.7}}", "bases/supervised.yaml")
    assert load(mine).config.model.contrastive.weight == 0.7


def test_a_base_reached_twice_is_no_cycle(write: Write) -> None:
    write("seed: 5", "ground.yaml")
    write("extends: ground.yaml", "left.yaml")
    write("extends: ground.yaml", "right.yaml")
    assert load(write("name: a\nextends: [left.yaml, right.yaml]")).config.seed == 5


def test_switching_a_name_leaves_none_of_the_old_ones_keys(write: Write) -> None:
    write("model: {optimizer: {name: sgd, momentum: 0.5, lr: 0.3}}", "base.yaml")
    switched = load(write("name: a\nextends: base.yaml\nmodel: {optimizer: {name: adamw}}"))
    assert switched.resolved["model"]["optimizer"] == {
        "name": "adamw",
        "lr": 0.001,
        "weight_decay": 0.01,
        "betas": (0.9, 0.999),
    }
    kept = load(write("name: a\nextends: base.yaml\nmodel: {optimizer: {name: sgd, lr: 0.2}}")).config.model.optimizer
    assert (kept.lr, kept.momentum) == (0.2, 0.5)  # type: ignore[attr-defined]  # SGD's own


def test_switching_away_from_the_default_component_drops_what_was_said_for_it(write: Write) -> None:
    write("model: {optimizer: {lr: 0.5, betas: [0.1, 0.2]}}", "base.yaml")
    assert load(write("name: a\nextends: base.yaml\nmodel: {optimizer: sgd}")).config.model.optimizer.lr == 0.01


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_overrides_does_not_matter_for_a_component_and_its_keys(write: Write, order: int) -> None:
    overrides = ["model.optimizer.momentum=0.5", "model.optimizer.name=sgd"][::order]
    assert load(write("name: a"), *overrides).resolved["model"]["optimizer"]["momentum"] == 0.5


def test_switching_a_layout_leaves_none_of_the_old_ones_keys(write: Write) -> None:
    path = write("name: a\ndata: {held_out: {x: {layout: msd, root: /x, labels: [7]}}}")
    site = load(path, "data.held_out.x.layout=manifest", "data.held_out.x.root=/y").config.data.held_out["x"]
    assert (site.layout, site.root, site.labels) == ("manifest", "/y", [1])


def test_source_and_held_out_replace_the_inherited_ones_whole(write: Write) -> None:
    write(
        "data:\n  source: {layout: msd, name: old, root: /old, check_ct: false}\n"
        "  held_out: {one: {layout: msd, root: /one}, two: {layout: msd, root: /two}}",
        "base.yaml",
    )
    path = write(
        "name: a\nextends: base.yaml\n"
        "data:\n  source: {layout: msd, root: /new}\n  held_out: {two: {layout: manifest, root: /2.csv}}"
    )
    data = load(path).config.data
    assert (data.source.name, data.source.root, data.source.check_ct) == ("msd", "/new", True)
    assert {key: site.layout for key, site in data.held_out.items()} == {"two": "manifest"}


def test_a_dotted_override_changes_one_key_of_source_and_held_out(write: Write) -> None:
    path = write("name: a\ndata: {source: {layout: msd, root: /s}, held_out: {one: {layout: msd, root: /one}}}")
    data = load(path, "data.source.check_ct=false", "data.held_out.mine.layout=manifest").config.data
    assert (data.source.root, data.source.check_ct) == ("/s", False)
    assert list(data.held_out) == ["one", "mine"]
    whole = load(path, "data.source={'layout': 'manifest', 'root': '/m.csv'}", "data.held_out={}").config.data
    assert (whole.source.layout, whole.source.root, whole.held_out) == ("manifest", "/m.csv", {})


def test_a_dotted_override_of_the_default_source_keeps_the_rest_of_it(write: Write) -> None:
    data = load(write("name: a"), "data.source.check_ct=false").config.data
    assert (data.source.layout, data.source.name, data.source.check_ct) == ("phantom", "phantom_source", False)


def test_held_out_sites_are_called_by_their_keys(write: Write) -> None:
    data = load(write("name: a\ndata: {held_out: {mine: {layout: manifest, root: /m.csv}}}")).config.data
    assert data.held_out["mine"].name == "mine"


def test_an_empty_section_means_its_defaults(write: Write) -> None:
    assert load(write("name: a\ntrainer:\ndata:\n  held_out:\n")).config.trainer == TrainerConfig()


def test_interpolation_sees_defaults_other_keys_and_the_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATCH", "[32, 48, 64]")
    monkeypatch.setenv("NUMBER", "0008")
    monkeypatch.setenv("NET", "sgd")
    path = write(
        "name: ${logging.project}_x\n"
        "seed: ${oc.env:NUMBER}\n"
        "model:\n  optimizer: {name: '${oc.env:NET}', momentum: 0.5}\n"
        "  contrastive: {weight: 0}\n  init: ${oc.env:NOT_THERE,null}\n"
        "data:\n  patch_size: ${oc.env:PATCH}\n  spacing: ${model.restoration.corruption.cells}\n"
        "  batch_size: ${trainer.devices}\n"
        "  source: {layout: msd, root: '${oc.env:NOT_THERE,/fallback}/data'}\n"
    )
    config = load(path).config
    assert (config.name, config.seed, config.model.init) == ("pansite_x", 8, None)
    assert config.data.patch_size == (32, 48, 64)
    assert config.data.spacing == (6.0, 9.0, 12.0)
    assert config.data.batch_size == 1
    assert config.data.source.root == "/fallback/data"
    assert config.model.optimizer.momentum == 0.5  # type: ignore[attr-defined]  # SGD's own


def test_a_whole_site_can_be_interpolated(write: Write) -> None:
    path = write("name: a\ndata: {held_out: {x: '${data.source}'}, source: {layout: msd, root: /s}}")
    with pytest.raises(ConfigurationErrors, match=r"data\.held_out\.x"):
        load(path)  # it reads what the source reads
    sites = load(path, "data.held_out.y={'layout': 'msd', 'root': '${data.store}'}", "data.held_out.x=manifest").config
    assert sites.data.held_out["y"].root == sites.data.store


def test_words_in_yaml_are_read_by_their_keys_type(write: Write) -> None:
    config = load(
        write(
            "name: 0123\nseed: 0123\nlogging: {project: 1:30}\n"
            "trainer: {precision: 32, max_steps: 1e3, compile: on}\nmodel: {optimizer: {lr: 1e-3}}\n"
        )
    ).config
    assert (config.name, config.seed, config.logging.project) == ("0123", 123, "1:30")
    assert (config.trainer.precision, config.trainer.max_steps, config.trainer.compile) == ("32", 1000, True)
    assert config.model.optimizer.lr == 1e-3


def test_yaml_anchors_and_merge_keys(write: Write) -> None:
    data = load(
        write(
            "name: a\ndata:\n  held_out:\n"
            "    one: &site {layout: msd, root: /one, labels: [2]}\n    two: {<<: *site, root: /two}\n"
        )
    ).config.data
    assert (data.held_out["two"].root, data.held_out["two"].labels) == ("/two", [2])


def test_paths_mean_the_same_from_any_folder(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    loaded = load(write("name: a\ndata: {store: ~/store, held_out: {x: {layout: msd, root: ct}}}"))
    assert loaded.config.data.store == str(tmp_path / "home" / "store")
    assert loaded.config.data.held_out["x"].root == str(tmp_path / "ct")
    assert loaded.config.run.root == str(tmp_path / "runs")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert load(write(loaded.yaml, "config.yaml")).config == loaded.config


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@settings(max_examples=30, deadline=None)
@given(
    project=TEXT | st.sampled_from(["null", "None", "~", "", "0123", "1:30", "${a}", "\\${a}", "\\\\${x", "yes", "'"]),
    lr=st.floats(1e-12, 1e6),
    seed=st.integers(0, 2**40),
    spacing=st.none() | st.tuples(*[st.floats(0.1, 5)] * 3),
    ema=st.none() | st.floats(0.01, 0.99),
    weights=st.dictionaries(st.sampled_from(["blur", "noise", "swap"]), st.floats(0, 9)),
    optimizer=st.sampled_from(["sgd", "adamw"]),
    sites=st.dictionaries(
        st.from_regex(r"[a-z0-9_.]{1,8}", fullmatch=True).map(lambda key: f"x{key}"), TEXT, max_size=3
    ),
)
def test_the_resolved_yaml_loads_to_the_same_configuration(
    tmp_path_factory: pytest.TempPathFactory, project: str, sites: dict[str, str], **values: Any
) -> None:
    from experiments.configuration.writing import to_yaml

    folder = tmp_path_factory.getbasetemp()
    path = folder / "said.yaml"
    said = {
        "name": "a",
        "seed": values["seed"],
        "logging": {"project": project},
        "data": {
            "spacing": values["spacing"],
            "held_out": {key: {"layout": "manifest", "root": f"/{root}"} for key, root in sites.items()},
        },
        "model": {
            "optimizer": {"name": values["optimizer"], "lr": values["lr"]},
            "restoration": {"corruption": {"operators": values["weights"]}},
        },
        "trainer": {"ema": values["ema"]},
    }
    path.write_text(to_yaml(said), encoding="utf-8")
    first = load_experiment(path)
    assert first.config.logging.project == project
    assert first.config.model.optimizer.lr == values["lr"]
    path.write_text(first.yaml, encoding="utf-8")
    second = load_experiment(path)
    assert second.config == first.config
    assert second.yaml == first.yaml


def test_every_key_of_the_schema_stands_in_the_resolved_yaml(write: Write) -> None:
    resolved = load(write(SMALL)).resolved
    assert set(resolved["trainer"]) == {field.name for field in fields(TrainerConfig)}


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_value_is_what_omegaconf_too_takes_for_one_of_its_type(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANSITE_DATA", "/nowhere")
    loaded = load_experiment(path)
    assert OmegaConf.to_container(OmegaConf.structured(loaded.config)) == loaded.resolved
