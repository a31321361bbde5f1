"""What was measured on each rung, a file a case: a ladder that was killed goes on with the cells that are missing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.atomic import write_json
from experiments.ladder.plan import Rung
from experiments.ladder.scans import Scans
from lightning_modules.metrics import CaseMetrics


@dataclass(frozen=True)
class Cells:
    """The cells of one run on certain scans.

    Attributes:
        folder: ``<run>/ladder/<scans>``.
        key: of weights, settings of inference and tolerance: a cell of another key is stale.
        scans: what is measured on.
    """

    folder: Path
    key: str
    scans: Scans

    def path(self, case: str, rung: Rung) -> Path:
        """Where a cell stands."""
        return self.folder / "cells" / rung.name / f"{case}.json"

    def read(self, case: str, rung: Rung) -> CaseMetrics | None:
        """A cell; None where it is missing, or of other weights, settings or voxels."""
        try:
            cell = json.loads(self.path(case, rung).read_text(encoding="utf-8"))
            if (cell["key"], cell["digest"]) != (self.key, self.scans.digest(case, rung)):
                return None
            return CaseMetrics(**cell["metrics"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, case: str, rung: Rung, metrics: CaseMetrics) -> None:
        """Write a cell, whole or not at all."""
        cell = {"key": self.key, "digest": self.scans.digest(case, rung), "metrics": asdict(metrics)}
        write_json(self.path(case, rung), cell)

    def sweep(self) -> None:
        """Remove what a kill left half-written; nobody else is writing there."""
        for part in self.folder.glob("**/.*.part"):
            part.unlink(missing_ok=True)
