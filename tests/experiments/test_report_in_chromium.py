"""The report in a real browser: by mouse, by keyboard, in the dark, on a narrow screen and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from experiments.report.page import write_report
from tests.browsing import check, opened
from tests.experiments.reported_run import EVIL, make_run
from tests.experiments.rich_run import enrich

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytest_plugins = ["tests.chromium"]
pytestmark = pytest.mark.slow
CASES = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs"), cases=CASES, first_case=EVIL.replace("/", ""))
    enrich(folder)
    return folder


@pytest.fixture(scope="module")
def file(run: Path) -> Path:
    return write_report(run)


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    with opened(browser, file) as page:
        yield page


def shown_slice(page: Page, plane: str) -> int:
    told = page.locator(f".plane[data-plane={plane}] output").text_content()
    assert told is not None
    return int(told.split("/")[0])


def wait_for_viewer(page: Page) -> None:
    page.wait_for_selector("#viewer[data-open]")


def column(table: Locator, number: int) -> list[str]:
    found: list[str] = table.evaluate(
        "(t, n) => [...t.tBodies[0].rows].map((r) => r.cells[n].dataset.value ?? r.cells[n].textContent)", number
    )
    return found


def test_it_opens_narrow_and_dark_without_an_error_a_request_or_sideways_scrolling(
    browser: Browser, file: Path
) -> None:
    check(browser, file)


def test_names_are_shown_and_never_run(page: Page) -> None:
    assert page.title() == "phantom_dual_ssl · 3f9a1c07b2de · Pansite"
    assert page.locator("img").count() == 0
    assert EVIL in (page.locator("#case-table").text_content() or "")


def test_tables_sort_by_mouse_and_by_keyboard_and_what_has_no_value_goes_last(page: Page) -> None:
    table = page.locator("#case-table")
    precision = table.locator("th button", has_text="Precision")
    precision.click()
    precision.click()
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    found = column(table, 6)
    assert found[-1] == "", "the empty prediction has no precision"
    assert [float(value) for value in found[:-1]] == sorted(map(float, found[:-1]), reverse=True)
    sites = page.locator("table.sites").first
    sites.locator("th button", has_text="Dice").first.focus()
    page.keyboard.press("Enter")
    dice = [float(value) for value in column(sites, 2)]
    assert dice == sorted(dice)


def test_the_table_of_cases_can_be_narrowed_and_widened(page: Page) -> None:
    table = page.locator("#case-table")
    page.get_by_label("Only rows with").fill("phantom_d empty")
    assert table.locator("tbody tr:visible").count() == 1
    assert page.locator("#case-count").text_content() == f"1 of {5 * CASES}"
    assert not table.locator("th", has_text="Recall head").is_visible()
    page.get_by_label("all measures").check()
    assert table.locator("th", has_text="Recall head").is_visible()


def test_dots_answer_the_pointer_and_the_arrow_keys(page: Page) -> None:
    plot, tip = page.locator("svg.plot").first, page.locator("#tip")
    dot = plot.locator("use[data-tip]").nth(1)
    dot.scroll_into_view_if_needed()
    dot.hover()
    assert tip.text_content() == dot.get_attribute("data-tip")
    assert "case_" in (tip.text_content() or "")
    page.mouse.move(1, 1)
    assert tip.is_hidden()
    plot.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert tip.text_content() == dot.get_attribute("data-tip")
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_curves_tell_their_values_at_a_step(page: Page) -> None:
    plot, tip = page.locator("#training svg.plot").first, page.locator("#tip")
    plot.scroll_into_view_if_needed()
    plot.hover()
    lines = (tip.text_content() or "").split("\n")
    assert lines[0].startswith("step ")
    assert [line.split()[0] for line in lines[1:]] == ["segmentation", "contrastive", "restoration"]
    plot.focus()
    page.keyboard.press("Home")
    assert (tip.text_content() or "").startswith("step 10\n")


def test_the_viewer_opens_the_worst_case_and_scrolls_by_wheel_slider_and_click(page: Page) -> None:
    wait_for_viewer(page)
    cases = page.locator(".roll button")
    assert "empty prediction" in (cases.first.text_content() or ""), "the worst first"
    dice = [float(each.text_content() or "") for each in cases.locator("b").all()]
    assert dice == sorted(dice)
    axial = page.locator(".plane[data-plane=axial]")
    before = shown_slice(page, "axial")
    axial.locator("canvas").hover()
    page.mouse.wheel(0, 80)
    page.wait_for_function(f"document.querySelector('.plane output').textContent.startsWith('{before + 2} ')")
    slider = page.get_by_label("coronal slice, seen from the front")
    slider.focus()
    there = shown_slice(page, "coronal")
    page.keyboard.press("ArrowRight")
    assert shown_slice(page, "coronal") == there + 1
    assert "slice" in (slider.get_attribute("aria-valuetext") or "")
    axial.locator("canvas").click(position={"x": 20, "y": 20})
    assert shown_slice(page, "coronal") < there
    cases.first.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(
        "document.querySelector('.roll [aria-pressed=true]') !== document.querySelector('.roll button')"
    )


def test_a_case_of_the_table_opens_in_the_viewer(page: Page) -> None:
    wait_for_viewer(page)
    link = page.locator("#case-table a[data-view]").last
    wanted = link.get_attribute("data-view")
    link.click()
    page.wait_for_function("(key) => document.getElementById('viewer').dataset.open === key", arg=wanted)
    assert page.evaluate("document.activeElement.dataset.case") == wanted


def test_the_browser_holds_the_same_voxels_as_the_run(page: Page, run: Path) -> None:
    wait_for_viewer(page)
    button = page.locator(".roll button").nth(2)
    site, case = button.evaluate("(b) => JSON.parse(b.dataset.case)")
    shape, grey, masks = button.evaluate(
        """async (b) => {
          const shape = b.dataset.shape.split(' ').map(Number);
          const read = async (text) => [...(await unrolled(text, Number(b.dataset.columns), shape))];
          return [shape, await read(b.dataset.image), await read(b.dataset.masks)];
        }"""
    )
    with np.load(run / "evaluation" / "volumes" / site / f"{case}.npz") as volume:
        assert list(volume["image"].shape) == shape
        np.testing.assert_array_equal(volume["masks"].ravel(), masks)
        assert np.abs(volume["image"].ravel().astype(int) - np.array(grey)).mean() < 6


def test_label_prediction_and_uncertainty_are_drawn_and_can_be_taken_away(page: Page) -> None:
    wait_for_viewer(page)
    page.locator(".roll button").nth(1).click()
    page.wait_for_function(
        "document.getElementById('viewer').dataset.open === document.querySelectorAll('.roll button')[1].dataset.case"
    )
    page.get_by_label("where the planes meet").uncheck()
    colours = {"label": (110, 198, 255), "prediction": (255, 176, 0)}
    for layer, colour in colours.items():
        assert like(page, colour) > 40, layer
        page.get_by_label(layer, exact=True).uncheck()
        assert like(page, colour) == 0
    assert coloured(page) == 0, "what is left is grey"
    page.get_by_label("uncertainty", exact=True).check()
    assert coloured(page) > 100


COUNT = """(test) => {
  const canvas = document.querySelector('.plane canvas');
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) {
    const colour = [...data.slice(at, at + 3)];
    const away = colour.map((value, c) => Math.abs(value - (test ?? colour)[c]));
    found += test ? Math.max(...away) < 30 : Math.max(...colour) - Math.min(...colour) > 25;
  }
  return found;
}"""


def like(page: Page, colour: tuple[int, int, int]) -> int:
    """Pixels of the axial slice that are nearly of a colour."""
    return int(page.evaluate(COUNT, list(colour)))


def coloured(page: Page) -> int:
    """Pixels of the axial slice that are not grey."""
    return int(page.evaluate(COUNT, None))


def test_outlines_are_closed_and_follow_the_mask(page: Page) -> None:
    lines = page.evaluate(
        "outlines((i, j) => (i >= 2 && i < 6 && j >= 3 && j < 9) || (i === 0 && j === 0) ? 1 : 0, 8, 12)"
    )
    assert len(lines) == 2
    block = np.array(max(lines, key=len)) / 2
    assert block.min(axis=0).tolist() == [3, 2]
    assert block.max(axis=0).tolist() == [9, 6]
    steps = np.abs(np.diff([*block.tolist(), block[0].tolist()], axis=0)).max(axis=1)
    assert (steps <= 1).all()


def test_paper_has_the_pictures_and_all_that_was_folded(page: Page) -> None:
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#viewer").is_hidden()
    assert page.locator("figure.case").first.is_visible()
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("nav").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_the_keyboard_gets_everywhere_and_shows_where_it_is(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('nav') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    reached = "[...document.querySelectorAll('svg.plot, .roll button, th button, input, summary')]"
    assert page.evaluate(f"{reached}.filter((e) => e.tabIndex !== 0).map((e) => e.ariaLabel)") == []
