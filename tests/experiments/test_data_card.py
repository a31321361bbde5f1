"""The data card: what a site holds and how far from the source it lies, on one page that fetches nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datamodules.config import StructureConfig
from datamodules.layouts.manifest import ManifestSite
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site
from datamodules.seal import find_overlap
from experiments.data_card.model import QUANTITIES, card_site, shift
from experiments.data_card.page import described_site, render, sentences
from tests.browsing import check
from tests.conftest import Tiny
from tests.datamodules.patients import patient, write_patient

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest_plugins = ["tests.chromium"]
Command = Callable[..., tuple[int, str, str]]
EVIL = "<img src=x onerror=alert(1)>"


def _site(folder: Path, name: str, cases: int, brighter: int = 0, slices: float = 3.0) -> Preparation:
    """A site of patients of its own, their pancreas brighter by so many HU and their slices so thick."""
    root = folder / "files" / re.sub(r"\W", "", name)
    root.mkdir(parents=True)
    rows = []
    for number in range(cases):
        hu = patient(sum(name.encode()) + number, (60, 56, 48))
        edges = (3.0, 3.0, 6 * slices if number == cases - 1 else slices)  # the last one is an outlier
        rows.append(write_patient(root, f"c{number}", hu, edges, organ=90 + brighter + number))
    listed = "".join(f"{row},p{number // 2}\n" for number, row in enumerate(rows))
    (root / "cases.csv").write_text(f"case,image,label,patient\n{listed}")
    site = ManifestSite(name=name, root=str(root / "cases.csv"), check_ct=False)
    return prepare_site(site, (6.0, 6.0, 6.0), StructureConfig(), folder / "store", progress=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> list[Preparation]:
    folder = tmp_path_factory.mktemp("card")
    return [_site(folder, "home", 6), _site(folder, "bright", 4, brighter=60), _site(folder, EVIL, 4, slices=5.0)]


def test_the_shift_of_a_site_is_told_in_the_sources_own_spreads(prepared: list[Preparation]) -> None:
    home, bright, thick = (card_site(site, "held_out" if n else "source") for n, site in enumerate(prepared))
    by_name = {quantity.name: quantity for quantity in QUANTITIES}
    assert {abs(shift(home, home, quantity)) for quantity in QUANTITIES} == {0}
    assert shift(thick, home, by_name["slice_mm"]) == pytest.approx((5 - 3) / 0.1)
    assert shift(bright, home, by_name["pancreas_hu"]) > 2
    assert bright.median(by_name["slice_mm"]) == 3.0
    assert home.patients == 3
    told = sentences([home, bright, thick], find_overlap(prepared[0].kept, [*prepared[1].kept, *prepared[2].kept]))
    assert "slice thickness (5.0 mm, the source 3.0 mm)" in told[2]
    assert told[-1] == "No held-out scan is among the source's, by content."


def test_an_outlier_is_named_with_its_reason(prepared: list[Preparation]) -> None:
    home = card_site(prepared[0], "source")
    assert {"c5"} <= set(home.outliers) < {case.name for case in home.cases}
    assert "slice thickness 18.0 mm, where the site's median is 3.0 mm" in home.outliers["c5"]


def test_the_page_stands_in_a_browser(browser: Browser, prepared: list[Preparation], tmp_path: Path) -> None:
    sites = [card_site(site, "held_out" if n else "source") for n, site in enumerate(prepared)]
    page = tmp_path / "card.html"
    page.write_text(render(EVIL, sites, find_overlap(prepared[0].kept, prepared[1].kept), "error"), encoding="utf-8")
    check(browser, page)


def test_the_page_shows_every_site_and_runs_nothing_that_a_name_brings(prepared: list[Preparation]) -> None:
    sites = [card_site(site, "held_out" if n else "source") for n, site in enumerate(prepared)]
    overlap = find_overlap(prepared[0].kept, prepared[1].kept)
    page = render(EVIL, sites, overlap, "error")
    assert EVIL not in page
    assert page.count('<figure class="slice">') >= 3 + 1  # a typical case of each site, and the outlier
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    assert 'role="alert"' not in page
    leaking = find_overlap(prepared[0].kept, prepared[0].kept)
    leaking.leaks.extend(leaking.within)
    assert 'role="alert"' in render("x", sites, leaking, "error")
    assert render(EVIL, sites, overlap, "error") == page


def test_a_site_is_told_in_plain_numbers(prepared: list[Preparation]) -> None:
    described = described_site(card_site(prepared[1], "held_out"), card_site(prepared[0], "source"))
    assert described["cases"] == 4
    assert described["by_case"]["c0"]["spacing"] == [3.0, 3.0, 3.0]
    assert sum(described["hu_pancreas"]) == pytest.approx(1, abs=1e-4)
    assert json.loads(json.dumps(described, allow_nan=False)) == described


def test_prepare_ends_with_the_card(tiny: Tiny, prepared: list[Preparation], pansite: Command) -> None:
    home, bright = prepared[0].folder.parents[2] / "files" / "home", prepared[1].folder.parents[2] / "files" / "bright"
    sites = [
        f"data.source={{name: home, layout: manifest, root: {home}/cases.csv, check_ct: false}}",
        f"data.held_out={{bright: {{layout: manifest, root: {bright}/cases.csv, check_ct: false}}}}",
    ]
    store = prepared[0].folder.parents[1]
    code, out, err = pansite("prepare", tiny.file, *sites, f"data.store={store}")
    assert code == 0, err
    page = Path(out.strip().rpartition("data card: ")[2])
    assert page.read_text().count('<section id="site-') == 2
    card = json.loads(page.with_suffix(".json").read_text())
    assert list(card["sites"]) == ["home", "bright"]
    assert card["sites"]["home"]["orientation"] == {"RAS": 6}
    (own,) = store.glob("bright-*/*/data_card.json")
    assert json.loads(own.read_text()) == card["sites"]["bright"]
