"""``pansite sites``: the layouts that are known, or the sites of one experiment."""

from __future__ import annotations

from collections import Counter
from dataclasses import MISSING, fields
from typing import Any

from rich.table import Table

from datamodules.errors import UsageError
from datamodules.layouts import LAYOUTS, SiteConfig
from datamodules.layouts.site import remarks
from experiments.configuration import Loaded
from experiments.terminal import terminal


def known_layouts() -> int:
    """Print every layout: a folder of it, the label ids it takes for pancreas, and what is known of its data."""
    table = Table("layout", title="Layouts of a site", title_justify="left")
    table.add_column("a folder looks like", overflow="fold")
    for column in ("pancreas labels", "cases", "licence"):
        table.add_column(column)
    configs = {name: LAYOUTS.config_class(name) for name in LAYOUTS.names()}
    for name, config in configs.items():
        about, ids = config.about, ", ".join(map(str, _default(config, "labels")))
        number = "–" if about.cases is None else f"{about.cases:,}"
        table.add_row(name, about.folder, ids or "found", number, about.licence)
    console = terminal()
    console.print(table)
    for name, config in configs.items():
        about = config.about
        if about.citation != "–":
            contains = f" It contains scans of: {about.contains}." if about.contains else ""
            console.print(f"{name}: {about.title}. {about.citation}.{contains}", soft_wrap=True)
    return 0


def sites_of(loaded: Loaded) -> int:
    """Print every site of an experiment: its role, layout, root, and its number of cases or what is wrong.

    Returns:
        2 if a site can't be read, else 0.
    """
    data = loaded.config.data
    table = Table("role", "site", "layout", "root", "cases", title=loaded.config.name, title_justify="left")
    rows = [("source", data.source), *(("held out", site) for site in data.held_out.values())]
    worst = 0
    said: list[str] = []
    for role, site in rows:
        cases, layout, notes, code = _looked_at(site)
        worst = max(worst, code)
        table.add_row(role, site.name, layout, site.root or "–", cases)
        said += [f"{site.name}: {note}" for note in notes]
    terminal().print(table)
    for line in said:
        terminal().print(line)
    return worst


def _looked_at(site: SiteConfig) -> tuple[str, str, list[str], int]:
    """The number of cases or what is wrong, the layout, what is to be said, and the exit code."""
    try:
        settled, notes = site.settled()
        cases = LAYOUTS.build(settled)
    except UsageError as error:
        return str(error), site.layout, [], 2
    faults = Counter(case.fault for case in cases if case.fault is not None)
    notes = [*notes, *remarks(settled, cases)]
    notes += [f"{number} left out: {fault}" for fault, number in sorted(faults.items())]
    return str(len(cases) - faults.total()), settled.layout, notes, 0


def _default(config: type[Any], name: str) -> Any:
    (field,) = (field for field in fields(config) if field.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()
