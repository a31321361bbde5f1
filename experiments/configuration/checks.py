"""What can be known to fail before any data is read: keys that are well typed, but not together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

from datamodules.layouts import SiteConfig
from experiments.config import ExperimentConfig
from experiments.configuration.faults import Faults, did_you_mean
from experiments.configuration.ranges import out_of_range
from lightning_modules.config import CorruptionConfig

FARTHEST_RING = 90.0
_NAME = re.compile(r"[\w][\w.+-]*")


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
        if not site.labels:
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


def patch(config: ExperimentConfig) -> Iterator[Problem]:
    """The network halves a patch a whole number of times, and something is left at the bottom."""
    keys = ("data.patch_size", "model.network.filters", "model.network.name")
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
            f"normalised; take a larger patch or fewer levels.",
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
            (key, "model.network.filters"),
            f"{network.name} has decoder features at stride {_listed(available)}, not at {settings.stride}.",
        )
    elif config.data.spacing is not None:
        cell = settings.stride * max(config.data.spacing)
        mid = max(15.0, max(5.0, 2 * cell) + 2 * cell)
        if mid > FARTHEST_RING:
            yield Problem(
                (key, "data.spacing"),
                f"its cells are {cell:g} mm wide at a spacing of {list(config.data.spacing)} mm, so that the mid "
                f"ring would reach {mid:g} mm, beyond {FARTHEST_RING:g} mm; take a smaller stride or spacing.",
            )


def corruption(config: ExperimentConfig) -> Iterator[Problem]:
    """Something corrupts, and it is known."""
    settings = config.model.restoration.corruption
    key = "model.restoration.corruption"
    known = CorruptionConfig().operators
    for name in settings.operators:
        if name not in known:
            yield Problem((f"{key}.operators.{name}",), f"there is no operator {name!r}; {did_you_mean(name, known)}")
    if config.model.restoration.weight == 0:
        return
    if not any(settings.operators.values()):
        yield Problem((f"{key}.operators",), "every operator has weight 0, so nothing can be corrupted.")
    if not settings.cells:
        yield Problem((f"{key}.cells",), "is empty; list edge lengths in mm.")


def precision(config: ExperimentConfig) -> Iterator[Problem]:
    """Lightning would turn fp16 into bf16 on a CPU and say nothing."""
    if config.trainer.precision == "16-mixed" and config.trainer.accelerator == "cpu":
        yield Problem(
            ("trainer.precision", "trainer.accelerator"), "16-mixed needs a GPU; on a CPU take bf16-mixed or 32."
        )


RULES: Sequence[Callable[[ExperimentConfig], Iterator[Problem]]] = (
    names,
    held_out_is_not_source,
    labels,
    batch,
    split,
    window,
    patch,
    contrast,
    corruption,
    precision,
)


def _reads_the_same(one: SiteConfig, other: SiteConfig) -> bool:
    if one.layout != other.layout:
        return False
    own = {f.name for f in fields(one) if not f.metadata.get("selects")} - {f.name for f in fields(SiteConfig)}
    chooses = {"root", *own}
    return (bool(one.root) or bool(own)) and all(getattr(one, key) == getattr(other, key) for key in chooses)


def _listed(numbers: Sequence[int]) -> str:
    head, last = [str(number) for number in numbers[:-1]], str(numbers[-1]) if numbers else "none"
    return f"{', '.join(head)} and {last}" if head else last
