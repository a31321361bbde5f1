"""What watches a run: checkpoints, metrics on disk, per-case evaluation, progress."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks.checkpoint_io import KillSafeCheckpointIO
    from callbacks.checkpoints import BestCheckpoint, ResumeCheckpoint
    from callbacks.metrics_file import MetricsFile, MetricsFileKeeper
    from callbacks.numerics import NonFiniteGuard
    from callbacks.panels import PanelWriter
    from callbacks.per_case import PerCaseEvaluation
    from callbacks.progress import ProgressBar

_HOMES = {
    "BestCheckpoint": "callbacks.checkpoints",
    "KillSafeCheckpointIO": "callbacks.checkpoint_io",
    "MetricsFile": "callbacks.metrics_file",
    "MetricsFileKeeper": "callbacks.metrics_file",
    "NonFiniteGuard": "callbacks.numerics",
    "PanelWriter": "callbacks.panels",
    "PerCaseEvaluation": "callbacks.per_case",
    "ProgressBar": "callbacks.progress",
    "ResumeCheckpoint": "callbacks.checkpoints",
}
__all__ = [
    "BestCheckpoint",
    "KillSafeCheckpointIO",
    "MetricsFile",
    "MetricsFileKeeper",
    "NonFiniteGuard",
    "PanelWriter",
    "PerCaseEvaluation",
    "ProgressBar",
    "ResumeCheckpoint",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
