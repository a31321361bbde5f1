"""What a rival needs is asked for in one sentence before any data is read."""

# ruff: noqa: E501 - a sentence and the mistake that it answers stand on one line
from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import experiments
from datamodules.errors import ConfigurationErrors
from experiments.configuration import load_experiment

SHIPPED = Path(experiments.__file__).parent
RIVALS = ("bigaug", "gin", "randconv", "slaug", "mixstyle", "dsu", "cutmix", "skeleton_contrast")


def faults(*overrides: str, base: str = "phantom_supervised") -> list[str]:
    try:
        load_experiment(SHIPPED / f"{base}.yaml", overrides)
    except ConfigurationErrors as error:
        return list(error.faults)
    return []


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.consistency.weight=1"], "model.consistency.weight: needs two views of each patch; set data.augmentation.views=2 with an augmentation that offers it: gin, randconv or slaug."),
        (["model.fusion=saliency", "data.augmentation.name=slaug"], "model.fusion: needs two views"),
        (["data.augmentation.name=gin", "data.augmentation.views=3"], "data.augmentation.views: expects one of 1, 2, not '3'."),
        (["data.augmentation.name=gin", "data.augmentation.kernels=[2, 3]"], "data.augmentation.kernels: must be one odd number or more, not (2, 3)."),
        (["data.augmentation.name=gin", "data.augmentation.alpha=[0.5, 1.5]"], "data.augmentation.alpha: must be two numbers between 0 and 1"),
        (["data.augmentation.name=gin", "data.augmentation.layers=0"], "data.augmentation.layers: must be at least 1"),
        (["data.augmentation.name=randconv", "data.augmentation.keep=2"], "data.augmentation.keep: must be a probability"),
        (["data.augmentation.name=slaug", "data.augmentation.inversion=-1"], "data.augmentation.inversion: must be a share"),
        (["data.augmentation.name=bigaug", "data.augmentation.sharpness=[3, 1]"], "data.augmentation.sharpness: must be two numbers from 0"),
        (["data.augmentation.name=cutmix", "data.augmentation.mixing=2"], "data.augmentation.mixing: must be a probability"),
        (["data.augmentation.rotation=-1"], "data.augmentation.rotation: must be at least 0, not -1.0."),
        (["data.augmentation.name=cutmix", "data.batch_size=1"], "data.augmentation.name: cutmix takes from the other samples that a rank has at once, and a rank has only one; raise data.batch_size."),
        (["model.features.name=dsu", "trainer.accumulate=2"], "model.features.name: dsu takes from the other samples"),
        (["model.features.name=mixstyle", "trainer.compile=true"], "trainer.compile: can't be combined with mixstyle"),
        (["model.features={name: mixstyle, strides: [1, 16]}"], "model.features.strides: must name strides at which dynunet has a stage, 1, 2, 4, 8, not [1, 16]."),
        (["model.features.name=dsu", "model.network={name: swin_unetr, feature_size: 12}", "data.patch_size=[64, 64, 64]"], "model.features.name: dsu works behind the stages of an encoder, and swin_unetr has no row of them"),
        (["model.skeleton={weight: 1, stride: 16}"], "model.skeleton.stride: dynunet has encoder features at strides 1, 2, 4, 8, not at 16."),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(overrides: list[str], sentence: str) -> None:
    (fault,) = faults(*overrides)
    assert sentence in fault


def test_the_methods_own_terms_and_a_rivals_are_told_apart_where_they_clash() -> None:
    (fault,) = faults("data.augmentation={name: slaug, views: 2}", "model.fusion=saliency", base="phantom_dual_ssl")
    assert "model.fusion: saliency looks at the gradient to an image that is not corrupted" in fault
    (fault,) = faults("data.augmentation={name: gin, views: 2}", base="phantom_pretrain")
    assert "data.augmentation.views: is 2, and without segmentation" in fault
    (fault, _) = faults(
        "data.augmentation={name: gin, views: 2}", "model.consistency.weight=1", base="phantom_pretrain"
    )
    assert "model.consistency.weight: compares predictions, and without segmentation" in fault


@pytest.mark.parametrize("augmentation", ["bigaug", "gin", "randconv", "slaug", "cutmix"])
def test_the_method_goes_with_any_augmentation(augmentation: str) -> None:
    assert faults(f"data.augmentation.name={augmentation}", base="phantom_dual_ssl") == []


@pytest.mark.parametrize("rival", RIVALS)
def test_a_rival_differs_from_supervised_by_its_own_keys_alone(rival: str) -> None:
    own, supervised = (
        load_experiment(SHIPPED / f"phantom_{name}.yaml").config for name in (rival, "supervised")
    )  # fmt: skip
    assert own.trainer == supervised.trainer
    assert own.model.network == supervised.model.network
    assert own.model.optimizer == supervised.model.optimizer
    for section in ("contrastive", "restoration"):
        assert getattr(own.model, section).weight == 0
    own.data.augmentation = supervised.data.augmentation
    assert own.data == supervised.data
    assert set(yaml.safe_load((SHIPPED / "bases" / f"{rival}.yaml").read_text())) <= {"extends", "data", "model"}
