"""Renders a template that extends ``base.html`` as one file without any outside reference."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.pages import words

HERE = Path(__file__).parent
STYLE = HERE / "page.css"
SCRIPT = HERE / "page.js"


def render(
    template: Path,
    *,
    style: Path | None = None,
    script: Path | None = None,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **context: Any,
) -> str:
    """The page as HTML: whatever ``context`` holds is escaped unless it is ``Markup``; the same bytes for the same.

    Args:
        template: extends ``base.html``; it may include or import what lies beside it and ``parts.html``.
        style: CSS that is added to the pages' own.
        script: JavaScript that is added to the pages' own.
        filters: of the template, beside those of :mod:`experiments.pages.words`.
        context: what the template shows.

    Raises:
        jinja2.UndefinedError: the template shows something that is not there.
    """
    environment = _environment(template.parent)
    environment.filters |= filters or {}
    code = _joined(SCRIPT, script)
    return environment.get_template(template.name).render(
        css=Markup(_joined(STYLE, style)),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        **context,
    )


@cache
def _environment(folder: Path) -> Environment:
    """Of the templates in a folder; what is compiled stays."""
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for own in (words.number, words.count, words.sortable, words.leading):
        environment.filters[own.__name__] = own
    return environment


def _joined(first: Path, second: Path | None) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in (first, second) if path is not None)
