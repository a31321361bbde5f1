"""``pansite sites``: the layouts that are known, or the sites of one experiment."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import Any

from rich.console import Console
from rich.table import Table

from datamodules.errors import UsageError
from datamodules.layouts import LAYOUTS, SiteConfig
from experiments.configuration import Loaded


def known_layouts() -> int:
    """Print every layout: its name, what it reads, the label ids it takes for pancreas."""
    table = Table("layout", "reads", "pancreas labels", title="Layouts of a site", title_justify="left")
    for name in LAYOUTS.names():
        config = LAYOUTS.config_class(name)
        table.add_row(name, _summary(config), ", ".join(map(str, _default(config, "labels"))))
    _console().print(table)
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
    for role, site in rows:
        cases, code = _count(site)
        worst = max(worst, code)
        table.add_row(role, site.name, site.layout, site.root or "–", cases)
    _console().print(table)
    return worst


def _count(site: SiteConfig) -> tuple[str, int]:
    try:
        return str(len(LAYOUTS.build(site))), 0
    except UsageError as error:
        return str(error), 2


def _summary(config: type[Any]) -> str:
    return inspect.cleandoc(config.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("``", "")


def _default(config: type[Any], name: str) -> Any:
    (field,) = (field for field in fields(config) if field.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    # Through a pipe there is no width to keep to: a path or a sentence is not to be cut.
    return console if console.is_terminal else Console(highlight=False, markup=False, width=1000)
