"""Every page as Chromium prints it: all of it, within the margins, in black on white."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pypdfium2
import pytest
from numpy.typing import NDArray

from datamodules.atomic import write_text
from experiments.report.page import write_report
from tests.browsing import opened
from tests.experiments.reported_run import SITES, make_run
from tests.experiments.rich_run import enrich
from tests.experiments.test_pages_in_chromium import PAGES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest_plugins = ["tests.chromium"]
pytestmark = pytest.mark.slow
CASES = 14
MARGIN = 42.5
"""Points; 1.5 cm, less what rounding takes."""
A4 = (595, 842)


class Printed:
    """A file as it comes out of the printer, with its details open as by hand."""

    def __init__(self, browser: Browser, file: Path, *, before: str = "", **settings: Any) -> None:
        with opened(browser, file, **settings) as page:
            if before:
                page.locator(before).check()
            self.document = pypdfium2.PdfDocument(page.pdf(format="A4"))

    def texts(self) -> list[str]:
        """What can be read on each page, without its spaces."""
        return [squeezed(page.get_textpage().get_text_range()) for page in self.document]

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """Each page in grey, a pixel a point."""
        for page in self.document:
            yield page.render(scale=1, grayscale=True).to_numpy().squeeze()

    def outside(self) -> list[str]:
        """Letters that lie beyond the margins, with their page."""
        found = []
        for number, page in enumerate(self.document, start=1):
            text, (width, height) = page.get_textpage(), page.get_size()
            for place in range(text.count_chars()):
                left, bottom, right, top = text.get_charbox(place)
                inside = left > MARGIN - 2 and bottom > MARGIN - 2 and right < width - MARGIN + 2
                if right > left and not (inside and top < height - MARGIN + 2):
                    found.append(f"page {number}: {text.get_text_range(max(0, place - 20), 21)!r}")
        return found


def squeezed(text: str) -> str:
    return re.sub(r"[\s\u00ad\ufffe]+", "", text)


def check(printed: Printed) -> None:
    """What holds of whatever is printed: no page without ink, none in the dark, nothing beyond the margins."""
    assert printed.outside() == []
    for number, picture in enumerate(printed.pictures(), start=1):
        assert picture.shape == pytest.approx((A4[1], A4[0]), abs=2)
        edge = int(MARGIN) - 2
        frame = picture.copy()
        frame[edge:-edge, edge:-edge] = 255
        assert frame.min() > 250, f"page {number} is printed to its edge"
        assert (picture < 200).mean() > 0.002, f"page {number} is blank"
        assert np.median(picture) > 250, f"page {number} is dark"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs"), cases=CASES)
    enrich(folder)
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> Path:
    return write_report(run)


@pytest.fixture(scope="module")
def printed(browser: Browser, report: Path) -> Printed:
    return Printed(browser, report, color_scheme="dark")


def test_a_report_is_printed_whole(browser: Browser, report: Path, run: Path, printed: Printed) -> None:
    check(printed)
    text = "".join(printed.texts())
    with opened(browser, report) as page:
        shown = page.locator("h1, h2:not(.hidden), h3, caption:not(.hidden), summary, figcaption b").all_text_contents()
        cases = page.locator("#case-table tbody th").all_text_contents()
    assert len(cases) == CASES * len(SITES)
    assert [words for words in (*shown, *cases) if squeezed(words) not in text] == []
    config = (run / "config.yaml").read_text("utf-8").splitlines()
    assert [line for line in config if squeezed(line) not in text] == [], "what was folded is there too"
    environment = (run / "environment.json").read_text("utf-8")
    assert squeezed(re.findall(r'"commit": "(\w+)"', environment)[0]) in text


def test_a_table_has_its_head_on_every_page_that_it_runs_over(printed: Printed) -> None:
    pages = [text for text in printed.texts() if len(re.findall(r"case_\d", text)) > CASES]
    assert len(pages) > 1, "more cases than a page holds"
    assert all("PrecisionRecall" in text for text in pages)


def test_all_measures_of_all_cases_fit_on_paper(browser: Browser, report: Path) -> None:
    wide = Printed(browser, report, before="#all-measures")
    check(wide)
    assert "Recallhead" in "".join(text for text in wide.texts() if "Remark" in text)


@pytest.mark.parametrize("name", PAGES)
def test_every_other_page_is_printed_whole(browser: Browser, tmp_path: Path, name: str) -> None:
    file = tmp_path / "page.html"
    write_text(file, PAGES[name](tmp_path))
    printed = Printed(browser, file, color_scheme="dark")
    check(printed)
    with opened(browser, file) as page:
        headings = page.locator("h1, h2:not(.hidden), h3").all_text_contents()
        rows = page.locator("tbody th").all_text_contents()
    text = "".join(printed.texts())
    assert [words for words in (*headings, *rows) if squeezed(words) not in text] == []
