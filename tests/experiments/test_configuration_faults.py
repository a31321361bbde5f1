"""Every mistake in a configuration is one sentence that names the key, the place and the way out; all are told at once."""

# ruff: noqa: E501 - a sentence and the mistake that it answers stand on one line
from __future__ import annotations

import re
from pathlib import Path

import pytest

from datamodules.errors import ConfigurationErrors
from datamodules.layouts import LAYOUTS
from experiments.configuration import load_experiment


def faults(folder: Path, text: str, *overrides: str) -> list[str]:
    """The sentences, the folder's own name left out."""
    path = folder / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationErrors) as caught:
        load_experiment(path, overrides)
    return [fault.replace(f"{folder}/", "") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: a\ndata:\n  batchsize: 3", "a.yaml:3: data.batchsize: data has no key 'batchsize'; did you mean 'batch_size'?"),
        ("name: a\nmax_steps: 3", "a.yaml:2: max_steps: an experiment has no key 'max_steps'; did you mean 'trainer.max_steps'?"),
        ("name: a\ndata.batch_size: 3", "a.yaml:2: data.batch_size: dots join keys in overrides only; in a file write data: {batch_size: …}."),
        ("seed: 1", "a.yaml:1: name: is missing; it expects text."),
        ("", "a.yaml: name: is missing; it expects text."),
        ("name: null", "a.yaml:1: name: expects text, not null."),
        ("name: a\nseed: 1.5", "a.yaml:2: seed: expects a whole number, not '1.5'."),
        ("name: a\nseed:\n", "a.yaml:2: seed: expects a whole number, not nothing."),
        ("name: a\nseed: [1]", "a.yaml:2: seed: expects a whole number, not [1]."),
        ("name: a\nmodel: {optimizer: {lr: .nan}}", "a.yaml:2: model.optimizer.lr: expects a number, not '.nan'."),
        ("name: a\nmodel: {optimizer: {lr: nan}}", "a.yaml:2: model.optimizer.lr: expects a number, not 'nan'."),
        ("name: a\ntrainer: {compile: maybe}", "a.yaml:2: trainer.compile: expects true or false, not 'maybe'."),
        ("name: a\ntrainer: {precision: bf16-mixd}", "a.yaml:2: trainer.precision: expects one of 32, bf16-mixed, 16-mixed, not 'bf16-mixd'. Did you mean 'bf16-mixed'?"),
        ("name: a\ndata:\n  patch_size: [96, 96]", "a.yaml:3: data.patch_size: expects a list of 3 whole numbers, not the 2 of [96, 96]."),
        ("name: a\ndata:\n  spacing: [1, x, 2]", "a.yaml:3: data.spacing: expects a list of 3 numbers or null, not 'x' in [1, x, 2]."),
        ("name: a\nmodel: {network: {filters: 8}}", "a.yaml:2: model.network.filters: expects a list of whole numbers, not '8'."),
        ("name: a\nmodel: {restoration: {corruption: {operators: {blur: x}}}}", "a.yaml:2: model.restoration.corruption.operators.blur: expects a number, not 'x'."),
        ("name: a\nmodel: {network: dynunit}", "a.yaml:2: model.network.name: there is no network 'dynunit'; did you mean 'dynunet'?"),
        ("name: a\nmodel:\n  optimizer: {name: sgd, betas: [0, 0]}", "a.yaml:3: model.optimizer.betas: the optimizer 'sgd' has no key 'betas'; known: name, lr, weight_decay, momentum."),
        ("name: a\nmodel: {contrastive: null}", "a.yaml:2: model.contrastive: expects keys of its own below it, not 'null'; to switch it off, write 'weight: 0' below it."),
        ("name: a\ndata:\n  source: {root: /x}", "a.yaml:3: data.source.layout: is missing; it chooses the layout: LAYOUTS."),
        ("name: a\ndata:\n  held_out:\n    x: {layout: mds}", "a.yaml:4: data.held_out.x.layout: there is no layout 'mds'; did you mean 'msd'?"),
        ("name: a\ndata:\n  held_out:\n    x: {layout: msd, rot: /x}", "a.yaml:4: data.held_out.x.rot: the layout 'msd' has no key 'rot'; did you mean 'root'?"),
        ("name: a\ndata:\n  held_out: [msd]", "a.yaml:3: data.held_out: expects names with values below it, not [msd]."),
        ("name: a\nname: b", "a.yaml:2: 'name' stands here a second time (first in line 1)."),
        ("name: [a", "a.yaml:1: not valid YAML: expected ',' or ']', but got '<stream end>'."),
        ("name: a\n\tseed: 1", "a.yaml:2: not valid YAML: found character '\\t' that cannot start any token."),
        ("- a", "a.yaml: an experiment is a mapping of keys such as 'name:' and 'data:'."),
        ("name: a\nseed: !!python/object:os.system 3", "a.yaml:2: the YAML tag 'tag:yaml.org,2002:python/object:os.system' has no meaning here; leave it out."),
        ("name: a\ndata: &d {source: *d}", "a.yaml:2: a YAML alias that contains itself."),
        ("name: ${oc.env:PANSITE_NOT_SET}", "a.yaml:1: name: the environment variable PANSITE_NOT_SET is not set; set it, or write ${oc.env:PANSITE_NOT_SET,some default}."),
        ("name: a\nseed: ${data.batchsize}", "a.yaml:2: seed: '${data.batchsize}' refers to a key that does not exist. Did you mean 'data.batch_size'?"),
        ("name: a\nseed: ${a.b", "a.yaml:2: seed: '${a.b' is not a valid interpolation; write ${section.key}, ${oc.env:VARIABLE} or ${oc.env:VARIABLE,default}."),
        ("name: a\nseed: ${env:X}", "a.yaml:2: seed: '${env:X}' uses an unknown resolver; oc.env, oc.select and oc.decode are known."),
        ("name: a\ndata:\n  store: ${data.store}", "a.yaml:3: data.store: '${data.store}' can't be resolved: recursive interpolation detected."),
        ("name: a\nmodel: {network: {name: '${oc.env:PANSITE_NOT_SET}'}}", "a.yaml:2: model.network.name: the environment variable PANSITE_NOT_SET is not set; set it, or write ${oc.env:PANSITE_NOT_SET,some default}."),
        ("name: a\nextends: {x: 1}", "a.yaml:2: extends: expects a path or a list of paths."),
    ],
)  # fmt: skip
def test_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    sentence = sentence.replace("LAYOUTS", ", ".join(LAYOUTS.names()))
    assert faults(tmp_path, text) in ([sentence], [sentence.replace("a.yaml:1: not", "a.yaml:2: not")])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.batch_sise=3", "data.batch_sise: data has no key 'batch_sise'; did you mean 'batch_size'?"),
        ("data.batch_size=None", "data.batch_size: expects a whole number, not None."),
        ("data.patch_size=(96, 96)", "data.patch_size: expects a list of 3 whole numbers, not the 2 of [96, 96]."),
        ("data.patch_size.0=96", "data.patch_size: expects a list of 3 whole numbers (a list is set as a whole), not a mapping of keys."),
        ("model.network=unett", "model.network.name: there is no network 'unett'; did you mean 'dynunet'?"),
        ("trainer=gpu", "trainer: expects keys of its own below it, not 'gpu'."),
        ("name.x=3", "name: expects text, not a mapping of keys."),
        ("model.contrastive.views=Both", "model.contrastive.views: expects one of both, clean, not 'Both'. Did you mean 'both'?"),
        ("data.held_out.x.root=/y", "data.held_out.x.layout: is missing; it chooses the layout: LAYOUTS."),
        ("seed=${nope}", "seed: '${nope}' refers to a key that does not exist."),
    ],
)  # fmt: skip
def test_one_sentence_for_an_override(tmp_path: Path, override: str, sentence: str) -> None:
    sentence = sentence.replace("LAYOUTS", ", ".join(LAYOUTS.names()))
    assert faults(tmp_path, "name: a", override) == [f"override '{override}': {sentence}"]


def test_all_faults_at_once_each_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("trainer:\n  max_steps: many\n  devces: 3\n", encoding="utf-8")
    text = "extends: [base.yaml, nope.yaml]\ndata:\n  batch_size: 3\n  window: [5, 1]\n  source: {layout: mds}\n"
    found = faults(tmp_path, text, "trainer.devices=2", "sed=3", "seed")
    places = sorted(re.split(r": ", fault)[:2] for fault in found)
    assert places == [
        ["a.yaml:1", "extends"],
        ["a.yaml:3", "data.batch_size"],
        ["a.yaml:4", "data.window"],
        ["a.yaml:5", "data.source.layout"],
        ["base.yaml:2", "trainer.max_steps"],
        ["base.yaml:3", "trainer.devces"],
        ["override 'sed=3'", "sed"],
        ["override 'seed'", "has no value; write KEY=VALUE."],
    ]


def test_what_may_stand_in_a_missing_base_is_not_called_missing(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "extends: bases/gone.yaml")
    assert fault.startswith("a.yaml:1: extends: there is no file 'bases/gone.yaml'")


def test_a_missing_base_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "dual_ssl.yaml").write_text("name: a", encoding="utf-8")
    (fault,) = faults(tmp_path, "extends: dual_sll.yaml")
    assert fault.endswith("Did you mean 'dual_ssl.yaml'?")


def test_a_cycle_is_told_with_its_chain(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("extends: c.yaml\n", encoding="utf-8")
    (tmp_path / "c.yaml").write_text("seed: 1\nextends: a.yaml\n", encoding="utf-8")
    found = faults(tmp_path, "name: a\nextends: [b.yaml]")
    assert found == ["c.yaml:2: extends: goes in a circle: a.yaml → b.yaml → c.yaml → a.yaml."]


def test_a_file_that_extends_itself(tmp_path: Path) -> None:
    assert faults(tmp_path, "name: a\nextends: a.yaml") == ["a.yaml:2: extends: goes in a circle: a.yaml → a.yaml."]


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigurationErrors, match="not a text file in UTF-8"):
        load_experiment(path)
    path.write_bytes(b"name: \x00")
    with pytest.raises(ConfigurationErrors, match="not valid YAML"):
        load_experiment(path)
    with pytest.raises(ConfigurationErrors, match="can't be read: Is a directory"):
        load_experiment(tmp_path)


def test_a_faulty_key_brings_no_second_fault(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "name: a\ndata: {batch_size: x}\ntrainer: {devices: 3}")) == 1
    assert len(faults(tmp_path, "name: a\ndata: {patch_size: [30, 30, 30]}\nmodel: {network: dynunit}")) == 1
