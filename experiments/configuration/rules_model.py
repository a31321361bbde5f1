"""Rules about the network and the terms of the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import chain

from experiments.config import ExperimentConfig
from experiments.configuration.faults import did_you_mean
from experiments.configuration.problem import Problem
from lightning_modules.config import CorruptionConfig
from lightning_modules.pretraining import misfits
from lightning_modules.regions.bounds import too_far
from lightning_modules.restoration_settings import corrupts
from lightning_modules.restoration_settings import misfits as restoration_misfits
from lightning_modules.rivals_settings import misfits as rival_misfits
from lightning_modules.rivals_settings import misfits_with_data


def network(config: ExperimentConfig) -> Iterator[Problem]:
    """The network can be built."""
    for key, sentence in config.model.network.faults():
        yield Problem((f"model.network.{key}", "model.network.name"), sentence)


def patch(config: ExperimentConfig) -> Iterator[Problem]:
    """The network halves a patch a whole number of times, and something is left at the bottom."""
    keys = ("data.patch_size", *_network_keys(config))
    size, total = config.data.patch_size, max(config.model.network.strides)
    if min(size) < 1:
        return
    if any(edge % total for edge in size):
        near = [max(math.floor(edge / total + 0.5), 1) * total for edge in size]
        yield Problem(
            keys,
            f"each edge must be a multiple of {total}, the total stride of {config.model.network.name}, "
            f"not {list(size)}; nearest: {near}.",
        )
    elif math.prod(edge // total for edge in size) < 2:
        yield Problem(
            keys,
            f"{list(size)} leaves a single cell at the network's total stride of {total}, which can't be "
            f"normalised; take a larger patch or a network with a smaller stride.",
        )


def contrast(config: ExperimentConfig) -> Iterator[Problem]:
    """Contrasted features exist, and their rings lie within the stored distance."""
    settings, network = config.model.contrastive, config.model.network
    if settings.weight == 0:
        return
    key = "model.contrastive.stride"
    # The coarsest features come from the encoder: the decoder begins one level above.
    available = network.strides[:-1]
    if settings.stride not in available:
        yield Problem(
            (key, *_network_keys(config)),
            f"{network.name} has decoder features at stride {_listed(available)}, not at {settings.stride}.",
        )
    elif config.data.spacing is not None and (sentence := too_far(config.data.spacing, settings.stride)) is not None:
        yield Problem((key, "data.spacing"), sentence)


def parcels(config: ExperimentConfig) -> Iterator[Problem]:
    """Thirds of an axis need an axis."""
    settings = config.model.contrastive
    if settings.weight > 0 and config.data.structure.axis == "none" and settings.structure in ("both", "axis"):
        yield Problem(
            ("model.contrastive.structure", "data.structure.axis"),
            f"{settings.structure!r} cuts the pancreas into thirds of an axis that data.structure.axis=none leaves "
            "unknown; set model.contrastive.structure=shells.",
        )


def parts_of_contrast(config: ExperimentConfig) -> Iterator[Problem]:
    """The weights of cohesion and separation say something, in the form that has them."""
    settings = config.model.contrastive
    key = "model.contrastive"
    if settings.weight == 0:
        return
    if settings.form == "cohesion_separation":
        if settings.cohesion == settings.separation == 0:
            yield Problem(
                (f"{key}.cohesion", f"{key}.separation"),
                f"it and {key}.separation are both 0, so nothing is contrasted; {key}.weight=0 switches the term off.",
            )
        return
    for part in ("cohesion", "separation"):
        if getattr(settings, part) != 1:
            yield Problem(
                (f"{key}.{part}", f"{key}.form"),
                f"has no effect on the form {settings.form!r}; set {key}.form=cohesion_separation or leave it out.",
            )


def pretraining(config: ExperimentConfig) -> Iterator[Problem]:
    """Something is trained, and without segmentation nothing asks for a prediction."""
    for key, sentence in misfits(config.model):
        yield Problem((key, "model.segmentation.weight"), sentence)


def restoration(config: ExperimentConfig) -> Iterator[Problem]:
    """What is restored, and in how many passes, goes together."""
    for keys, sentence in restoration_misfits(config.model, config.data.patch_size):
        yield Problem(keys, sentence)


def corruption(config: ExperimentConfig) -> Iterator[Problem]:
    """Something corrupts, and it is known."""
    settings = config.model.restoration.corruption
    key = "model.restoration.corruption"
    known = CorruptionConfig().operators
    for name in settings.operators:
        if name not in known:
            yield Problem((f"{key}.operators.{name}",), f"there is no operator {name!r}; {did_you_mean(name, known)}")
    if not corrupts(config.model):
        return
    if not any(settings.operators.values()):
        yield Problem((f"{key}.operators",), "every operator has weight 0, so nothing can be corrupted.")
    if not settings.cells:
        yield Problem((f"{key}.cells",), "is empty; list edge lengths in mm.")


def rivals(config: ExperimentConfig) -> Iterator[Problem]:
    """What rival methods need is there."""
    trainer = config.trainer
    batch_of_a_rank = config.data.batch_size // max(1, trainer.devices * trainer.nodes * trainer.accumulate)
    found = (
        rival_misfits(config.model),
        misfits_with_data(config.model, config.data.augmentation, batch_of_a_rank, trainer.compile),
    )
    for keys, sentence in chain(*found):
        yield Problem(keys, sentence)


RULES: Sequence[Callable[[ExperimentConfig], Iterator[Problem]]] = (
    network,
    patch,
    contrast,
    parcels,
    parts_of_contrast,
    pretraining,
    restoration,
    corruption,
    rivals,
)


def _network_keys(config: ExperimentConfig) -> tuple[str, ...]:
    """All that decides the strides of the network, its name last."""
    chosen = [field.name for field in fields(config.model.network) if field.name != "name"]
    return (*[f"model.network.{key}" for key in chosen], "model.network.name")


def _listed(numbers: Sequence[int]) -> str:
    head, last = [str(number) for number in numbers[:-1]], str(numbers[-1]) if numbers else "none"
    return f"{', '.join(head)} and {last}" if head else last
