"""What all pages share: columns by name, figures whose marks speak, and a frame that lets nothing in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from experiments.pages.columns import column
from experiments.pages.render import render
from experiments.pages.scatter import Dot, looks, scatter
from experiments.pages.svg import inline

EVIL = "</title><script>document.title = 'run'</script>"


@pytest.mark.parametrize(
    ("name", "label", "unit", "digits"),
    [("dice", "Dice", "", 3), ("hd95", "HD95", "mm", 1), ("recall_tail", "Recall tail", "", 3),
     ("volume_error_ml", "Volume error", "ml", 1), ("pancreas_hu", "Pancreas", "HU", 0), ("ml", "Ml", "ml", 1)],
)  # fmt: skip
def test_a_measure_is_named_by_what_it_is_called(name: str, label: str, unit: str, digits: int) -> None:
    found = column(name)
    assert (found.name, found.label, found.unit, found.digits) == (name, label, unit, digits)


def test_every_mark_says_what_it_is_in_the_order_of_the_dots() -> None:
    dots = [Dot("b", f"b{n} <&>", n, n * n) for n in range(5)] + [Dot("a", "a0", 1.5, 3)]
    svg = scatter(dots, looks(["a", "b"]), "plot", ("x", "y"), "what is to be seen")
    assert re.findall("<title>(.*?)</title>", svg) == ["a0", *(f"b{n} &lt;&amp;&gt;" for n in range(5))]
    assert 'aria-label="what is to be seen"' in svg


def test_four_sites_have_four_colours_and_marks() -> None:
    found = looks(["a", "b", "c", "d"])
    assert len({look.colour for look in found.values()}) == len({look.mark for look in found.values()}) == 4


def test_points_along_a_curve_lie_where_the_curve_is() -> None:
    figure = Figure(figsize=(4, 3))
    axes = figure.add_axes((0.25, 0.2, 0.5, 0.6))
    axes.plot([0, 10], [0, 1])
    axes.set_xlim(0, 10)
    svg = inline(figure, "curve", "", points=[(0, "begin"), (5, "middle"), (10, "end")])
    attributes = {name: re.search(rf'data-{name}="(.*?)"', svg) for name in ("points", "span")}
    points, span = (json.loads(found[1].replace("&quot;", '"')) for found in attributes.values() if found)
    assert points == [[72.0, "begin"], [144.0, "middle"], [216.0, "end"]], "a quarter, half, three quarters of 4 inches"
    assert span == pytest.approx([0.2 * 216, 0.8 * 216], abs=0.1)


def test_a_frame_escapes_all_names_and_shows_nothing_that_is_not_there(tmp_path: Path) -> None:
    template = tmp_path / "page.html"
    template.write_text(
        '{% extends "base.html" %}{% from "parts.html" import section, table %}'
        "{% block title %}{{ name }}{% endblock %}"
        '{% block content %}{% call section("x", name) %}{{ table(name, ["a", name], [[name, "0.5 [0.1, 0.9]"]]) }}'
        "{% endcall %}{% endblock %}"
    )
    page = render(template, name=EVIL, contents=[("x", EVIL)])
    assert page.count("<script>") == 1
    assert page.count("&lt;script&gt;") == 7
    assert 'data-value="0.5"' in page
    with pytest.raises(UndefinedError):
        render(template, contents=[])
