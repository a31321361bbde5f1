"""How well a prediction agrees with the reference of one case.

===================  ===================================================================================
``record``           the numbers of a case, and what each of them is
``protocol``         tolerances, grids and the policy for empty masks, in the words that stand above tables
``case``             two masks, compared on the case's native grid
``surfaces``         NSD, HD95, ASSD
``band``             Dice near the reference's surface
``calibration``      how far probabilities are from frequencies
``uncertainty``      how sure the model is of a case, and whether that tells where it errs
===================  ===================================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_modules.metrics.case import case_metrics
    from lightning_modules.metrics.protocol import TOLERANCE_MM
    from lightning_modules.metrics.record import CaseMetrics

_HOMES = {"CaseMetrics": "record", "TOLERANCE_MM": "protocol", "case_metrics": "case"}
__all__ = ["TOLERANCE_MM", "CaseMetrics", "case_metrics"]


def __getattr__(name: str) -> Any:
    """Import on first use: what reads a table needs no MONAI."""
    if name in _HOMES:
        return getattr(import_module(f"lightning_modules.metrics.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
