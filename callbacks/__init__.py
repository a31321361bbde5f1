"""What watches a run: checkpoints, metrics on disk, per-case evaluation, progress."""

from __future__ import annotations

from importlib import import_module
from typing import Any

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
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
