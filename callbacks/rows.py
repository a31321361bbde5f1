"""The row of each evaluated case as a file of its own: an evaluation that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from callbacks.checkpoint_io import read_checkpoint
from datamodules.atomic import write_json
from datamodules.native import read_note
from datamodules.store import CaseRecord
from lightning_modules.metrics import TOLERANCE_MM, CaseMetrics

Role = Literal["source_test", "held_out"]

FORMAT = 2
"""Raised whenever the same prediction would be measured differently: all rows are then computed anew."""
LOOK_FORMAT = 1
"""Of what ledgers hold."""


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and where the results go.

    Attributes:
        folder: ``<run>/evaluation``.
        checkpoint: its ``name``, ``step`` and ``sha256``, see :func:`describe_checkpoint`.
        inference: settings that alter predictions, as plain values.
        roles: what each site is, by name, in the order of the table.
        records: the cases of all sites, each once.
        excluded: of each site, the cases that can't be used and why.
        tolerance: of the NSD, mm.
        predictions: folder for predictions as NIfTI; None writes none.
        location_prior: by site, the Dice of the source's mean shape at its mean place, for comparison.
        remarks: further entries of ``summary.json``, as plain containers.
    """

    folder: Path
    checkpoint: Mapping[str, Any]
    inference: Mapping[str, Any]
    roles: Mapping[str, Role]
    records: Sequence[CaseRecord]
    excluded: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tolerance: float = TOLERANCE_MM
    predictions: Path | None = None
    location_prior: Mapping[str, float] = field(default_factory=dict)
    remarks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A hash of checkpoint, settings and what is measured: a row of another key is stale."""
        return self._hash(FORMAT)

    @property
    def look(self) -> str:
        """A hash of checkpoint and settings: to measure more of the same predictions is no other look at a site."""
        return self._hash(LOOK_FORMAT)

    def _hash(self, version: int) -> str:
        parts = {
            "format": version,
            "checkpoint": self.checkpoint["sha256"],
            "inference": dict(self.inference),
            "tolerance": self.tolerance,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def signature(self, record: CaseRecord) -> str:
        """What a case's prediction says of itself: these weights and settings, this image."""
        parts = [self.checkpoint["sha256"], dict(self.inference), record.digest]
        return f"pansite {hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]}"

    def prediction_path(self, site: str, case: str) -> Path | None:
        """Where the prediction of a case goes, if it is wanted."""
        return None if self.predictions is None else self.predictions / site / f"{case}.nii.gz"

    def overlay_path(self, site: str, case: str) -> Path:
        """Where the slices of a case go that the report shows."""
        return self.folder / "overlays" / site / f"{case}.npz"

    def volume_path(self, site: str, case: str) -> Path:
        """Where the volume of a case goes that the report's viewer shows."""
        return self.folder / "volumes" / site / f"{case}.npz"

    def row_path(self, site: str, case: str) -> Path:
        """Where the row of a case goes."""
        return self.folder / "cases" / site / f"{case}.json"


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Name, step and content hash of a checkpoint.

    Raises:
        UsageError: it can't be loaded.
    """
    digest = hashlib.sha256()
    step = int(read_checkpoint(path).get("global_step", 0))
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"name": path.name, "step": step, "sha256": digest.hexdigest()}


def write_row(evaluation: Evaluation, record: CaseRecord, metrics: CaseMetrics) -> None:
    """Write a case's row, whole or not at all; the last thing that is done for a case."""
    row = {
        "site": record.site,
        "case": record.case,
        "key": evaluation.key,
        "digest": record.digest,
        "metrics": asdict(metrics),
    }
    write_json(evaluation.row_path(record.site, record.case), row)


def read_row(evaluation: Evaluation, record: CaseRecord) -> CaseMetrics | None:
    """A case's metrics; None where they are missing, or of another checkpoint, other settings or other voxels."""
    try:
        row = json.loads(evaluation.row_path(record.site, record.case).read_text(encoding="utf-8"))
        if (row["key"], row["digest"]) != (evaluation.key, record.digest):
            return None
        wanted = evaluation.prediction_path(record.site, record.case)
        if wanted is not None and read_note(wanted) != evaluation.signature(record):
            return None
        return CaseMetrics(**row["metrics"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def finished(evaluation: Evaluation) -> set[tuple[str, str]]:
    """(site, case) of those that need not be computed again."""
    return {(r.site, r.case) for r in evaluation.records if read_row(evaluation, r) is not None}
