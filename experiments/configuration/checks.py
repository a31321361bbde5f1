"""What can be known to fail before any data is read: keys that are well typed, but not together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain

from datamodules.layouts import LAYOUTS, SiteConfig
from experiments.config import ExperimentConfig
from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.ranges import out_of_range
from lightning_modules.config import CorruptionConfig
from lightning_modules.pretraining import misfits
from lightning_modules.regions.bounds import too_far
from lightning_modules.restoration_settings import corrupts
from lightning_modules.restoration_settings import misfits as restoration_misfits
from lightning_modules.rivals_settings import misfits as rival_misfits
from lightning_modules.rivals_settings import misfits_with_data

_NAME = re.compile(r"[\w][\w.+-]*")
_TIME = re.compile(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}")
_MEMORY = re.compile(r"\d+[KMGT]?")


@dataclass(frozen=True)
class Problem:
    """What is wrong, and the keys it hangs on; the first is the one to mend."""

    keys: tuple[str, ...]
    sentence: str


def check(config: ExperimentConfig, places: dict[str, str], faults: Faults) -> None:
    """Find every problem that needs no data to be seen.

    Args:
        config: the experiment; where a key has a fault already, it holds the default.
        places: where each key was set.
        faults: takes up what is found, unless a key it hangs on has a fault already.
    """
    for key, sentence in [*out_of_range(config)]:
        _note(Problem((key,), sentence), places, faults)
    for rule in RULES:
        for problem in rule(config):
            _note(problem, places, faults)


def _note(problem: Problem, places: dict[str, str], faults: Faults) -> None:
    if not any(faults.touches(key) for key in problem.keys):
        key = next((key for key in problem.keys if key in places), problem.keys[0])
        faults.add(_place(key, places), problem.keys[0], problem.sentence)


def _place(key: str, places: dict[str, str]) -> str:
    while key and key not in places:
        key = key.rpartition(".")[0]
    return places[key] if key else "default"


def names(config: ExperimentConfig) -> Iterator[Problem]:
    """Names become folders, and every site needs its own."""
    if not _NAME.fullmatch(config.name):
        yield Problem(("name",), f"becomes a folder, so use letters, digits, '_', '-' and '.', not {config.name!r}.")
    source = config.data.source
    if not _NAME.fullmatch(source.name):
        yield Problem(("data.source.name",), f"use letters, digits, '_', '-' and '.', not {source.name!r}.")
    for key, site in config.data.held_out.items():
        path = f"data.held_out.{key}"
        if not _NAME.fullmatch(key):
            yield Problem((path,), f"a site's name has letters, digits, '_', '-' and '.', not {key!r}.")
        if site.name != key:
            yield Problem((f"{path}.name",), f"a held-out site is called by its key, {key!r}; leave 'name' out.")
        if key == source.name:
            yield Problem((path, "data.source.name"), "is called like the source; give one of them another name.")


def held_out_is_not_source(config: ExperimentConfig) -> Iterator[Problem]:
    """A site can't be trained on and held out."""
    for key, site in config.data.held_out.items():
        if _reads_the_same(site, config.data.source):
            place = f"{site.layout} at {site.root}" if site.root else site.layout
            yield Problem(
                (f"data.held_out.{key}.root", f"data.held_out.{key}", "data.source.root"),
                f"reads what the source reads ({place}), so it is not held out.",
            )


def labels(config: ExperimentConfig) -> Iterator[Problem]:
    """Without a label id there is no pancreas."""
    sites = {"data.source": config.data.source}
    sites |= {f"data.held_out.{key}": site for key, site in config.data.held_out.items()}
    for path, site in sites.items():
        if not site.labels and LAYOUTS.config_class(site.layout)().labels:  # else the layout finds them itself
            yield Problem((f"{path}.labels",), "is empty; list the label ids that make up the pancreas.")


def batch(config: ExperimentConfig) -> Iterator[Problem]:
    """The global batch is cut evenly."""
    trainer, size = config.trainer, config.data.batch_size
    parts = trainer.devices * trainer.nodes * trainer.accumulate
    if parts < 1 or size % parts == 0:
        return
    near = sorted({max(size // parts, 1) * parts, (size // parts + 1) * parts})
    yield Problem(
        ("data.batch_size", "trainer.devices", "trainer.nodes", "trainer.accumulate"),
        f"the global batch of {size} can't be shared out evenly among {trainer.devices} devices × {trainer.nodes} "
        f"nodes × {trainer.accumulate} accumulated batches = {parts}; nearest: {' or '.join(map(str, near))}.",
    )


def split(config: ExperimentConfig) -> Iterator[Problem]:
    """A fold is one of the folds."""
    folds, fold = config.data.split.folds, config.data.split.fold
    if fold >= folds:
        yield Problem(
            ("data.split.fold", "data.split.folds"),
            f"must be below the {folds} folds: 0 to {folds - 1}, not {fold}.",
        )


def window(config: ExperimentConfig) -> Iterator[Problem]:
    """A window has a width."""
    low, high = config.data.window
    if low >= high:
        yield Problem(
            ("data.window",),
            f"must rise from the HU that becomes 0 to that which becomes 1, not [{low:g}, {high:g}].",
        )


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


def augmentation(config: ExperimentConfig) -> Iterator[Problem]:
    """What is drawn can be drawn."""
    for key, sentence in config.data.augmentation.faults():
        yield Problem((f"data.augmentation.{key}", "data.augmentation.name"), f"{sentence}.")


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


def precision(config: ExperimentConfig) -> Iterator[Problem]:
    """Lightning would turn fp16 into bf16 on a CPU and say nothing."""
    if config.trainer.precision == "16-mixed" and config.trainer.accelerator == "cpu":
        yield Problem(
            ("trainer.precision", "trainer.accelerator"), "16-mixed needs a GPU; on a CPU take bf16-mixed or 32."
        )


def cluster(config: ExperimentConfig) -> Iterator[Problem]:
    """The profile is there, and says what SLURM understands."""
    settings = config.cluster
    if settings.profile not in {*settings.profiles, "default"}:
        hint = did_you_mean(settings.profile, {"default": None, **settings.profiles})
        yield Problem(("cluster.profile", "cluster.profiles"), f"there is no profile {settings.profile!r}; {hint}")
    for name, profile in settings.profiles.items():
        key = f"cluster.profiles.{name}"
        if profile.time is not None and not _TIME.fullmatch(profile.time):
            yield Problem((f"{key}.time",), f"write 90 (minutes), 4:00:00 or 1-00:00:00, not {profile.time!r}.")
        if profile.memory is not None and not _MEMORY.fullmatch(profile.memory):
            yield Problem((f"{key}.memory",), f"write it as 64G or 65536M, not {profile.memory!r}.")
        for option in profile.sbatch:
            if not option.startswith("-"):
                yield Problem((f"{key}.sbatch",), f"lists options of sbatch, such as --exclusive, not {option!r}.")


RULES: Sequence[Callable[[ExperimentConfig], Iterator[Problem]]] = (
    names,
    held_out_is_not_source,
    labels,
    batch,
    split,
    window,
    network,
    patch,
    contrast,
    parcels,
    parts_of_contrast,
    pretraining,
    restoration,
    corruption,
    augmentation,
    rivals,
    precision,
    cluster,
)


def _network_keys(config: ExperimentConfig) -> tuple[str, ...]:
    """All that decides the strides of the network, its name last."""
    chosen = [field.name for field in fields(config.model.network) if field.name != "name"]
    return (*[f"model.network.{key}" for key in chosen], "model.network.name")


def _reads_the_same(one: SiteConfig, other: SiteConfig) -> bool:
    if one.layout != other.layout:
        return False
    own = {f.name for f in fields(one) if not f.metadata.get("selects")} - {f.name for f in fields(SiteConfig)}
    chooses = {"root", *own}
    return (bool(one.root) or bool(own)) and all(getattr(one, key) == getattr(other, key) for key in chooses)


def _listed(numbers: Sequence[int]) -> str:
    head, last = [str(number) for number in numbers[:-1]], str(numbers[-1]) if numbers else "none"
    return f"{', '.join(head)} and {last}" if head else last
