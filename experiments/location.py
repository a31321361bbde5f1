"""What the location prior scores at every evaluated site, computed once for the same cases."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from datamodules.atomic import write_json
from datamodules.json_files import known_json
from datamodules.location_prior import LocationPrior
from datamodules.store import StoredCase


def location_prior_dice(
    file: Path, training: Sequence[StoredCase], evaluated: Sequence[StoredCase]
) -> dict[str, float]:
    """Mean Dice of the source's location prior by site.

    Args:
        file: where the answer is kept for the next time; computed anew when a case has changed or it is damaged.
        training: the source's training cases.
        evaluated: the cases of all sites.
    """
    digests = [[case.record.site, case.record.case, case.record.digest] for case in (*training, *evaluated)]
    key = hashlib.sha256(json.dumps([len(training), digests]).encode()).hexdigest()
    kept = known_json(file)
    if kept.get("key") == key:
        known: dict[str, float] = kept["dice"]
        return known
    prior = LocationPrior.fit(training)
    scores: dict[str, list[float]] = {}
    for case in evaluated:
        scores.setdefault(case.record.site, []).append(prior.dice(case))
    dice = {site: statistics.fmean(values) for site, values in scores.items()}
    write_json(file, {"key": key, "dice": dice})
    return dice
