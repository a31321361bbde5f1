"""The evaluation as W&B's own plots, which answer there: Dice by site, and each case by its volume and uncertainty."""

from __future__ import annotations

import math
from typing import Any

from experiments.pages.columns import column
from experiments.report.model import Results

AGAINST = ("reference_volume_ml", "uncertainty")
"""What the Dice of each case is shown against, as far as it was measured."""


def plots(results: Results) -> dict[str, Any]:
    """Plots to log, by name; each brings a small table of its own."""
    import wandb

    sites = wandb.Table(columns=["site", "dice"], data=[[site.name, site.dice] for site in results.sites])
    found = {"evaluation/dice_by_site": wandb.plot.bar(sites, "site", "dice", title="Mean Dice by site")}
    cases = [case for site in results.sites for case in site.cases]
    for name in AGAINST:
        known = [case for case in cases if math.isfinite(case.metrics.get(name, math.nan))]
        if not known:
            continue
        rows = [[case.site, case.case, case.metrics[name], case.dice] for case in known]
        table = wandb.Table(columns=["site", "case", name, "dice"], data=rows)
        title = f"Dice by {column(name).label}"
        found[f"evaluation/dice_by_{name}"] = wandb.plot.scatter(table, name, "dice", title=title)
    return found
