"""The data card of the sites that a run is evaluated on, kept with the run: its report tells how they differ."""

from __future__ import annotations

from datamodules.atomic import write_json
from datamodules.held_out import HeldOutDataModule
from experiments.data_card.model import card_site
from experiments.data_card.page import described_site
from experiments.run_folder import RunFolder


def keep_card(run: RunFolder, data: HeldOutDataModule) -> None:
    """Write ``evaluation/data_card.json``: the sites as ``pansite prepare`` describes them, the source first.

    Args:
        run: what is evaluated.
        data: its sites, set up.
    """
    sites = [
        card_site(preparation, "source" if data.roles[name] == "source_test" else "held_out")
        for name, preparation in data.preparations.items()
    ]
    write_json(run.data_card, {"sites": {site.name: described_site(site, sites[0]) for site in sites}})
