"""Matplotlib figures as inline SVG that follows the page: its fonts, and its colours in light, dark and print.

Figures are drawn with stand-in colours, which become CSS variables here.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#000001", "#000002", "#000003", "#000004"
SOURCE, HELD_OUT = "#000005", "#000006"
SERIES = ("#000011", "#000012", "#000013", "#000014", "#000015")

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


def inline(
    figure: Figure,
    name: str,
    description: str,
    titles: Mapping[str, str | Sequence[str]] | None = None,
    points: Sequence[tuple[float, str]] = (),
) -> Markup:
    """An ``<svg>`` element to stand in an HTML page; it answers the pointer and the arrow keys.

    Args:
        figure: drawn with this module's colours.
        name: unique on the page; ids begin with it.
        description: what the figure shows, for those who can't see it.
        titles: what an element says on hover, by its gid; of a line of markers, what each of them says.
        points: of curves: places along the x axis of the first axes, rising, each with what is said there.
    """
    root = ElementTree.fromstring(_draw(figure, name))
    titles = titles or {}
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("metadata", "}title")):
                parent.remove(child)
    for element in list(root.iter()):
        said = titles.get(element.get("id", ""))
        _plain(element, name)
        if said is not None:
            _entitle(element, said)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib.update({"class": "plot", "role": "img", "aria-label": description})
    if points:
        # Drawing has settled where the axes lie. SVG counts points (1/72 inch).
        axes, scale = figure.axes[0], 72 / figure.dpi
        across = axes.transData.transform([(x, axes.get_ylim()[0]) for x, _ in points])[:, 0]
        places = (across * scale).round(1).tolist()
        root.set("data-points", json.dumps([[place, text] for place, (_, text) in zip(places, points, strict=True)]))
        box, height = axes.get_window_extent(), 72 * figure.get_size_inches()[1]
        root.set("data-span", json.dumps([round(float(height - end * scale), 1) for end in (box.y1, box.y0)]))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _entitle(element: ElementTree.Element, said: str | Sequence[str]) -> None:
    """Give an element its title, or each of its markers."""
    marks = [element] if isinstance(said, str) else [each for each in element.iter() if each.tag.endswith("use")]
    for mark, text in zip(marks, [said] if isinstance(said, str) else said, strict=True):
        child = ElementTree.Element("title")
        child.text = text
        mark.insert(0, child)


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
