"""Rules about devices, batches and the cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from experiments.config import ExperimentConfig
from experiments.configuration.faults import did_you_mean
from experiments.configuration.problem import Problem

_TIME = re.compile(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}")
_MEMORY = re.compile(r"\d+[KMGT]?")


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
    batch,
    precision,
    cluster,
)
