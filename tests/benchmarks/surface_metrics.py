"""What Dice, NSD, HD95 and ASSD of a case take, beside MONAI's four functions on the same masks.

    python -m tests.benchmarks.surface_metrics

Two masks of a pancreas' size on a CT's own grid of 512×512×200, one moved and eroded. Dice and NSD have to equal
MONAI's (with ``use_subvoxels=True``). HD95 and ASSD are taken on surface elements as DeepMind's ``surface-distance``
has them, and have to equal that library's; MONAI's take the centres of voxels and are another number, told beside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import surface_distance
import torch
from monai import metrics as mm
from numpy.typing import NDArray
from scipy import ndimage

from lightning_modules.metrics.case import case_metrics
from tests.benchmarks.made import SHAPE, SMALL, organ
from tests.benchmarks.results import Line, Scale, at_most, present
from tests.benchmarks.turns import Ratio

TITLE = "Dice, NSD, HD95 and ASSD of a case"
SPACING = (0.75, 0.75, 1.5)
TOLERANCE = 2.0
Mask = NDArray[np.bool_]
Values = dict[str, float]


def measure(scale: Scale) -> list[Line]:
    """Time, and how far values differ."""
    torch.set_num_threads(scale.threads)
    shape = SMALL if scale.quick else SHAPE
    present_ = organ(shape, SPACING) > 0
    predicted = ndimage.binary_erosion(np.roll(present_, (3, -2, 1), (0, 1, 2)))
    sides: dict[str, Callable[[Mask, Mask], Values]] = {"ours": _ours, "monai": _monai}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    values: dict[str, Values] = {}
    for _ in range(2 if scale.quick else 8):
        for name, side in sides.items():
            begin = time.perf_counter()
            values[name] = side(predicted, present_)
            seconds[name].append(time.perf_counter() - begin)
    first, second = seconds["ours"][1:], seconds["monai"][1:]
    lines = [
        at_most(
            "time", "MONAI's four functions", Ratio.of(first, second), 0.5,
            f"{1e3 * median(first):.0f} ms, {1e3 * median(second):.0f} ms",
        )
    ]  # fmt: skip
    library = _library(predicted, present_)
    for name, peer, other in (
        ("dice", "MONAI", values["monai"]),
        ("nsd", "MONAI", values["monai"]),
        ("hd95", "surface-distance", library),
        ("assd", "surface-distance", library),
    ):
        apart = abs(values["ours"][name] - other[name])
        beside = "" if peer == "MONAI" else f"; MONAI {values['monai'][name]:.4f}"
        told = f"{values['ours'][name]:.4f} and {other[name]:.4f}{beside}"
        lines.append(Line(name, peer, "equal to 1e-4", f"{apart:.1e} apart", apart <= 1e-4, told))
    return lines


def _ours(predicted: Mask, present_: Mask) -> Values:
    found = case_metrics(predicted, present_, SPACING, TOLERANCE)
    return {"dice": found.dice, "nsd": found.nsd, "hd95": found.hd95, "assd": found.assd}


def _monai(predicted: Mask, present_: Mask) -> Values:
    one, other = (torch.from_numpy(mask)[None, None].float() for mask in (predicted, present_))
    surface = {"include_background": True, "spacing": SPACING}
    return {
        "dice": float(mm.compute_dice(one, other)),
        "nsd": float(mm.compute_surface_dice(one, other, [TOLERANCE], use_subvoxels=True, **surface)),
        "hd95": float(mm.compute_hausdorff_distance(one, other, percentile=95, **surface)),
        "assd": float(mm.compute_average_surface_distance(one, other, symmetric=True, **surface)),
    }


def _library(predicted: Mask, present_: Mask) -> Values:
    found = surface_distance.compute_surface_distances(present_, predicted, SPACING)
    to_prediction, to_reference = surface_distance.compute_average_surface_distance(found)
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    return {
        "hd95": float(surface_distance.compute_robust_hausdorff(found, 95)),
        "assd": float((to_prediction * areas[0] + to_reference * areas[1]) / sum(areas)),
    }


if __name__ == "__main__":
    present("surface_metrics", TITLE, __doc__, measure)
