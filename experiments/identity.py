"""The id of a run: a hash of exactly what alters its trained weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments.config import ExperimentConfig

ALTERING = frozenset(
    {
        "seed",
        "data.patch_size",
        "data.batch_size",
        "data.window",
        "data.sampling",
        "data.structure",
        "data.augmentation",
        "data.source.labels",
        "model.network",
        "model.segmentation",
        "model.contrastive",
        "model.restoration",
        "model.optimizer",
        "model.schedule",
        "trainer.max_steps",
        "trainer.precision",
        "trainer.accumulate",
        "trainer.gradient_clip",
        "trainer.ema",
        # It decides which steps can become the best checkpoint.
        "trainer.validate_every",
    }
)
"""Keys that enter the id as they are, with all that lies below them."""

WHERE_ON = frozenset({"model.consistency", "model.skeleton", "model.fusion", "model.features"})
"""Keys that enter the id as ``ALTERING`` does, but only where they are switched on: runs from before they were there
keep their ids."""

BY_CONTENT = frozenset({"data.source", "data.spacing", "data.split", "model.init"})
"""Keys that enter by what they come to: the cases and their digests, the spacing in mm, the split, the weights."""

INDIFFERENT = frozenset(
    {
        "name",
        "data.store",
        "data.workers",
        "data.held_out",
        "data.overlap",
        "trainer.accelerator",
        "trainer.devices",
        "trainer.nodes",
        "trainer.checkpoint_every",
        "trainer.checkpoint_minutes",
        "trainer.log_every",
        "trainer.nonfinite_limit",
        "trainer.timeout",
        # Like the number of devices, these change the order of a sum, not what is computed.
        "trainer.deterministic",
        "trainer.compile",
        "trainer.channels_last",
        "trainer.progress_bar",
        "evaluation",
        "logging",
        "run",
        "cluster",
    }
)
"""Keys that do not enter the id."""

_LENGTH = 10
# At weight 0 a term is not built, so nothing below it matters.
_SWITCHED_BY_WEIGHT = frozenset({"model.contrastive", "model.restoration", "model.consistency", "model.skeleton"})
_OFF = ({"weight": 0}, {"name": "none"}, "none")


def run_id(
    config: ExperimentConfig,
    cases: Sequence[tuple[str, str, str]],
    spacing: Sequence[float],
    split: Mapping[str, Sequence[str]],
    init_digest: str | None = None,
) -> str:
    """Ten hexadecimal digits that two runs share when they train the same weights.

    Args:
        config: the experiment.
        cases: case id, patient and digest of every case of the source that is used, in any order.
        spacing: training spacing in mm along D, H, W, as found or given.
        split: case ids under ``train``, ``validation`` and ``test``.
        init_digest: digest of the weights that ``model.init`` names; None where it names none.

    Raises:
        ValueError: ``model.init`` is set without a digest, or the other way round.
    """
    parts = identity(config, cases, spacing, split, init_digest)
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def identity(
    config: ExperimentConfig,
    cases: Sequence[tuple[str, str, str]],
    spacing: Sequence[float],
    split: Mapping[str, Sequence[str]],
    init_digest: str | None = None,
) -> dict[str, Any]:
    """What :func:`run_id` hashes, by key; arguments and errors are the same."""
    if (config.model.init is None) != (init_digest is None):
        raise ValueError("a digest of the initial weights is due exactly where model.init names some")
    return configured(config) | {
        # Patients matter through the split alone.
        "cases": sorted([case, digest] for case, _, digest in cases),
        "data.spacing": [float(edge) for edge in spacing],
        "data.split": {part: sorted(split[part]) for part in sorted(split)},
        "model.init": init_digest,
    }


def configured(config: ExperimentConfig) -> dict[str, Any]:
    """What a configuration alone, without its data, says of the identity: the value of every key that enters."""
    parts = {key: _value(config, key) for key in sorted(ALTERING | WHERE_ON)}
    return {key: value for key, value in parts.items() if key in ALTERING or value not in _OFF}


def _value(config: ExperimentConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    if key in _SWITCHED_BY_WEIGHT and value.weight == 0:
        return {"weight": 0}
    if key == "data.source.labels":
        return sorted(set(value or config.data.source.settled()[0].labels))
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def altered_keys(before: ExperimentConfig, after: ExperimentConfig) -> list[str]:
    """Keys that differ and decide what was trained; where the source's files lie is not among them."""
    by_content = ("data.source.layout", "data.spacing", "data.split", "model.init")
    return [key for key in (*sorted(ALTERING | WHERE_ON), *by_content) if _value(before, key) != _value(after, key)]
