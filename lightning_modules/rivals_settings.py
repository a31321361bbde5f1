"""Settings of the rivals that are each well typed, but don't go together."""

from __future__ import annotations

from collections.abc import Iterator

from datamodules.augmentation.base import AugmentationConfig
from lightning_modules.config import ModelConfig
from lightning_modules.restoration_settings import corrupts
from lightning_modules.rivals_config import StatisticsConfig

Misfits = Iterator[tuple[tuple[str, ...], str]]
"""The keys that something hangs on, the one to mend first, and the sentence that follows that one."""


def misfits(config: ModelConfig) -> Misfits:
    """What can't work whatever the data.

    Args:
        config: the model.
    """
    strides = config.network.strides
    listed = ", ".join(map(str, strides))
    features, skeleton = config.features, config.skeleton
    if isinstance(features, StatisticsConfig):
        if not config.network.staged:
            yield (
                ("model.features.name", "model.network.name"),
                f"{features.name} works behind the stages of an encoder, and {config.network.name} has no row of "
                "them; set model.features.name=none or choose another network.",
            )
        elif not features.strides or not set(features.strides) <= set(strides):
            yield (
                ("model.features.strides", "model.network.name"),
                f"must name strides at which {config.network.name} has a stage, {listed}, not "
                f"{list(features.strides)}.",
            )
    if skeleton.weight > 0 and skeleton.stride not in strides:
        yield (
            ("model.skeleton.stride", "model.network.name"),
            f"{config.network.name} has encoder features at strides {listed}, not at {skeleton.stride}.",
        )
    if config.fusion == "saliency" and corrupts(config):
        yield (
            ("model.fusion", "model.restoration.weight"),
            "saliency looks at the gradient to an image that is not corrupted as well; set model.fusion=none or "
            "model.restoration.weight=0.",
        )
    if config.segmentation.weight == 0 and (config.consistency.weight > 0 or config.fusion != "none"):
        key = "model.consistency.weight" if config.consistency.weight > 0 else "model.fusion"
        yield (
            (key, "model.segmentation.weight"),
            "compares predictions, and without segmentation (model.segmentation.weight: 0) there is none; "
            "leave it out.",
        )


def misfits_with_data(config: ModelConfig, augmentation: AugmentationConfig, batch: int, compiled: bool) -> Misfits:
    """What can't work with these data.

    Args:
        config: the model.
        augmentation: of the patches.
        batch: samples that a rank has at once.
        compiled: whether the network is compiled.
    """
    two = augmentation.appearances == 2
    views = "data.augmentation.views"
    for key, asked in (
        ("model.consistency.weight", config.consistency.weight > 0),
        ("model.fusion", config.fusion != "none"),
    ):
        if asked and not two:
            yield (
                (key, views, "data.augmentation.name"),
                f"needs two views of each patch; set {views}=2 with an augmentation that offers it: gin, randconv or "
                "slaug.",
            )
    if two and config.segmentation.weight == 0:
        yield (
            (views, "model.segmentation.weight"),
            "is 2, and without segmentation (model.segmentation.weight: 0) nothing looks at the second view; set it "
            "to 1.",
        )
    statistics = isinstance(config.features, StatisticsConfig)
    for key, name, asked in (
        ("data.augmentation.name", augmentation.name, augmentation.mixes),
        ("model.features.name", config.features.name, statistics),
    ):
        if asked and batch < 2:
            yield (
                (key, "data.batch_size", "trainer.devices", "trainer.accumulate"),
                f"{name} takes from the other samples that a rank has at once, and a rank has only one; raise "
                "data.batch_size.",
            )
    if statistics and compiled:
        yield (
            ("trainer.compile", "model.features.name"),
            f"can't be combined with {config.features.name}, which draws anew in each pass; set it to false.",
        )
