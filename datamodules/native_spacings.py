"""The spacing that a source is trained at where none is asked for: the median of its files' own, by their headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.atomic import write_json
from datamodules.errors import CaseError, UsageError, one_line
from datamodules.json_files import known_json
from datamodules.layouts import Case, SiteConfig
from datamodules.pool import run_all
from datamodules.prepare_case import quick_key
from datamodules.store import Spacing
from datamodules.writing import writing


def median_spacing(
    site: SiteConfig, cases: Sequence[Case], home: Path, processes: int = 1, labelled: bool = True
) -> Spacing:
    """Median native spacing in mm along left-right, posterior-anterior, inferior-superior, rounded to 1/1000.

    Over the cases whose headers can be read and whose label is there; read from headers, once for each file.

    Raises:
        UsageError: no case has a readable header.
    """
    path = home / "spacings.json"
    known = known_json(path)
    work = [(site, case, labelled, known.get(case.case)) for case in cases]
    found = {item[1].case: result for item, result in run_all(_native_spacing, work, processes)}
    read = {case: entry for case, entry in sorted(found.items()) if isinstance(entry, dict)}
    if read != known:
        with writing(home):
            write_json(path, read)
    spacings = [entry["spacing"] for entry in read.values() if "spacing" in entry]
    if not spacings:
        first = "; ".join(f"{case}: {entry['reason']}" for case, entry in list(read.items())[:3])
        raise UsageError(f"site {site.name!r}: none of its {len(cases)} cases can be used: {first}")
    median = np.median(np.array(spacings), axis=0).round(3)
    return float(median[0]), float(median[1]), float(median[2])


def _native_spacing(item: tuple[SiteConfig, Case, bool, dict[str, Any] | None]) -> dict[str, Any]:
    from datamodules.volume_files import read_grid

    site, case, labelled, known = item
    try:
        site.materialise(case)
        key = quick_key(case, labelled)
        if known is not None and known.get("key") == key:
            return known
        if case.fault is not None:
            return {"reason": case.fault}
        if labelled and (case.label is None or not case.label.exists()):
            return {"reason": "it has no label" if case.label is None else f"{case.label} does not exist"}
        return {"key": key, "spacing": list(read_grid(case.image).canonical_spacing())}
    except CaseError as error:
        return {"reason": one_line(str(error))}
    except UsageError:
        raise
    except Exception as error:  # what a file provokes is that case's fault, as in preparing it
        return {"reason": one_line(f"its header can't be read ({type(error).__name__}: {error})")}
