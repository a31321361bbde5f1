"""Matplotlib figures as inline SVG that follows the page: its fonts, and its colours in light, dark and print.

Figures are drawn with stand-in colours, which become CSS variables here.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#000001", "#000002", "#000003", "#000004"
SOURCE, HELD_OUT = "#000005", "#000006"
SERIES = ("#000011", "#000012", "#000013")

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--paper",
    SOURCE: "--source",
    HELD_OUT: "--held-out",
} | {colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)}
_COLOUR = re.compile("|".join(_VARIABLES))
_REFERENCE = re.compile(r"#(?=[A-Za-z_])")


def inline(figure: Figure, name: str, description: str, titles: Mapping[str, str] | None = None) -> Markup:
    """An ``<svg>`` element to stand in an HTML page.

    Args:
        figure: drawn with this module's colours.
        name: unique on the page; ids begin with it.
        description: what the figure shows, for those who can't see it.
        titles: what an element says on hover, by its gid.
    """
    root = ElementTree.fromstring(_draw(figure, name))
    titles = titles or {}
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("metadata", "}title")):
                parent.remove(child)
    for element in list(root.iter()):
        title = titles.get(element.get("id", ""))
        _plain(element, name)
        if title is not None:
            child = ElementTree.Element("title")
            child.text = title
            element.insert(0, child)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib.update({"class": "plot", "role": "img", "aria-label": description})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _draw(figure: Figure, name: str) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser's fonts are used, not Matplotlib's
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _plain(element: ElementTree.Element, name: str) -> None:
    """Drop namespaces, make ids unique on the page, turn stand-in colours into variables."""
    element.tag = element.tag.rpartition("}")[2]
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    element.attrib.clear()
    for key, value in attributes.items():
        if key == "id":
            value = f"{name}-{value}"
        elif key in {"href", "clip-path"}:
            value = _REFERENCE.sub(f"#{name}-", value)
        elif key == "style":
            value = _COLOUR.sub(lambda match: f"var({_VARIABLES[match.group()]})", value)
        element.set(key, value)
