"""The report's pictures: slices with their contours, volumes to look through, and one picture for a slide."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from experiments.pages.words import number
from experiments.report.collect import collect
from experiments.report.overlays import overlays, read_slices
from experiments.report.overview import overview, palette, pictured
from experiments.report.viewer import Viewed, viewed
from tests.experiments.reported_run import EVIL, SITES, make_run
from tests.experiments.rich_run import SHAPE, enrich


def test_the_worst_and_the_median_case_are_shown(reported: Path) -> None:
    results = collect(reported)
    shown = overlays(results.sites)
    for site in results.sites:
        (worst, median) = shown[site.name]
        assert worst.case.dice == min(site.values("dice"))
        assert sum(value <= median.case.dice for value in site.values("dice")) == len(site.cases) // 2
        assert [panel.plane for panel in worst.panels] == ["axial", "coronal", "sagittal"]


def test_contours_lie_on_the_outline_of_the_mask(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=1, slices=False)
    path = folder / "evaluation" / "overlays" / "phantom_a" / "case_000.npz"
    path.parent.mkdir(parents=True)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 20:40] = 1
    parts = {"image": mask, "label": mask, "prediction": 0 * mask, "uncertainty": mask}
    np.savez(
        path,
        **{f"{plane}_{name}": array for plane in ("axial", "coronal", "sagittal") for name, array in parts.items()},
        **{f"{plane}_aspect": np.float64(2) for plane in ("axial", "coronal", "sagittal")},
    )
    assert read_slices(path)[1].plane == "coronal"
    panel = overlays(collect(folder).sites)["phantom_a"][0].panels[0]
    assert panel.prediction == ""
    points = np.array([[float(v) for v in p.split()] for p in re.split("[ML]", panel.label.rstrip("Z"))[1:]])
    extent = points.max(0) - points.min(0)
    assert extent[0] == pytest.approx(extent[1], rel=0.01), "20 pixels of 1 wide equal 10 pixels of 2 high"
    centre = (points.max(0) + points.min(0)) / 2
    assert centre == pytest.approx([panel.width / 2, panel.height / 2], abs=panel.width * 0.05)


def test_many_sites_stay_within_the_limit(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=2)
    results = collect(folder)
    few = overlays(results.sites)["phantom_source"][0].panels[0]
    crowd = overlays([site for n in range(12) for site in (replace(s, name=f"{n}_{s.name}") for s in results.sites)])
    pictures = sum(len(p.image) + len(p.uncertainty) for e in crowd.values() for s in e for p in s.panels)
    assert pictures < 4_000_000
    assert crowd["0_phantom_source"][0].panels[0].width < few.width


def test_volumes_shrink_and_then_go_where_there_is_little_room(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=2, slices=False)
    assert viewed(collect(folder).sites) == []
    enrich(folder)
    sites = collect(folder).sites
    plenty = viewed(sites)
    assert [entry.case.dice for entry in plenty] == sorted(case.dice for site in sites for case in site.cases)
    assert [entry.rank for entry in plenty if entry.case.site == "phantom_d"] == ["worst", "worst 2"]
    assert {entry.sheets.shape[0] for entry in plenty} == {SHAPE[2]}, "not thinned"
    room = sum(map(size, plenty))
    tight = viewed(sites, room // 8)
    assert len(tight) == len(plenty)
    assert sum(map(size, tight)) <= room // 8
    assert all(entry.sheets.shape < plenty[0].sheets.shape for entry in tight)
    assert [entry.sheets.spacing[2] / entry.sheets.spacing[0] for entry in tight] == pytest.approx([2 / 3] * len(tight))
    assert viewed(sites, 0) == []
    crowd = [replace(site, name=f"{n}_{site.name}") for n in range(8) for site in sites]
    assert len(viewed(crowd)) == 24, "the worst of all, where sites are too many"


def size(entry: Viewed) -> int:
    """Bytes of a case's volume, before base64."""
    return (len(entry.sheets.image) + len(entry.sheets.masks)) * 3 // 4


@pytest.fixture(scope="module")
def picture(reported: Path) -> Path:
    return reported / "evaluation" / "overview.png"


def test_the_overview_is_a_picture_for_a_slide_beside_the_page(picture: Path) -> None:
    with Image.open(picture) as image:
        assert (image.format, image.size) == ("PNG", (1600, 900))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert picture.stat().st_size <= 400_000
    assert (pixels[[0, -1]] == 255).all(), "white to its border, as slides are"
    assert (pixels[:, [0, -1]] == 255).all()
    colours = palette()
    for name in ("source", "held-out", "label", "prediction", "ink"):
        wanted = [int(colours[name][place : place + 2], 16) for place in (1, 3, 5)]
        assert (abs(pixels - wanted).max(axis=-1) <= 12).sum() > 200, f"{name} is to be seen"


def test_the_same_run_gives_the_same_picture_whatever_matplotlib_is_set_to(reported: Path, picture: Path) -> None:
    with mpl.rc_context({"font.size": 20.0, "lines.linewidth": 5.0, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert overview(collect(reported)) == picture.read_bytes()


def test_the_overview_shows_every_number_that_it_is_about(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = drawn_texts(reported, monkeypatch)
    results = collect(reported)
    headline = next(text for text in texts if text.startswith("Source test"))
    assert number(results.macro["dice"]) in headline
    assert f"gap {number(results.gap['dice'])}" in headline
    assert [text for text in texts if text in SITES] == [*SITES, *SITES], "the source first, left and right"
    assert [text for text in texts if text.startswith("Dice 0.")] == [
        f"Dice {number(site.cases[(len(site.cases) - 1) // 2].dice)}" for site in results.sites
    ], "the median case of every site, as in the page"


def drawn_texts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All words of the overview, in the order in which they are drawn."""
    from matplotlib.backends.backend_agg import RendererAgg

    said: list[str] = []
    draw = RendererAgg.draw_text

    def listen(self: Any, gc: Any, x: Any, y: Any, s: str, prop: Any, angle: Any, **others: Any) -> None:
        said.append(s)
        draw(self, gc, x, y, s, prop, angle, **others)

    monkeypatch.setattr(RendererAgg, "draw_text", listen)
    overview(collect(folder))
    return said


def test_of_many_sites_the_overview_pictures_the_best_the_worst_and_some_between(reported: Path) -> None:
    results = collect(reported)
    held_out = results.held_out
    many = [replace(site, name=f"{site.name}_{n}") for n in range(3) for site in held_out]
    shown = pictured(replace(results, sites=(results.sites[0], *many)))
    assert shown[0].role == "source_test"
    assert len(shown) == 5
    assert {min(many, key=lambda s: s.dice).dice, max(many, key=lambda s: s.dice).dice} <= {s.dice for s in shown}
    assert [site.name for site in pictured(results)] == list(SITES)


def test_an_overview_without_slices_without_held_out_sites_and_with_any_name(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=1, slices=False, first_case=EVIL)
    results = collect(folder)
    alone = replace(results, name=EVIL * 9, sites=results.sites[:1], macro={}, gap={})
    nothing = replace(alone, sites=())
    for variant in (results, alone, nothing):
        with Image.open(io.BytesIO(overview(variant))) as image:
            assert image.size == (1600, 900)
