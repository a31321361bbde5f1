"""What is asked of pages in a real browser; the browser itself is the fixture of ``tests.chromium``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NARROW = 800


@contextmanager
def opened(browser: Browser, file: Path, **settings: Any) -> Iterator[Page]:
    """A page of a file, 1280 pixels wide unless ``settings`` of the browser's context say otherwise.

    At its end nothing may have been said on the console, gone wrong in a script, or been asked of any network.
    """
    said: list[str] = []
    # Nothing is to move while it is pointed at.
    usual = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
    context = browser.new_context(**{**usual, **settings})
    try:
        page = context.new_page()
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: said.append(f"request: {request.url}") if asks(request.url) else None)
        url = file.resolve().as_uri()
        page.goto(url)
        assert page.evaluate("document.documentElement.dataset.ready") == "", "the page's own script ran to its end"
        yield page
        assert [line for line in said if line != f"request: {url}"] == []
    finally:
        context.close()


def asks(url: str) -> bool:
    """Whether a request leaves the page."""
    return not url.startswith("data:")


def overflow(page: Page) -> list[str]:
    """What makes a page scroll sideways; nothing on a page that does not."""
    found: list[str] = page.evaluate(
        """() => document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] :
        [...document.body.querySelectorAll('*')]
          .filter((e) => !e.closest('.scroll'))
          .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth)
          .map((e) => e.outerHTML.slice(0, 90))"""
    )
    return found


def faults(page: Page) -> list[str]:
    """What those who don't see the page would miss."""
    found: list[str] = page.evaluate(
        """() => [
          ...(document.querySelectorAll('h1').length === 1 ? [] : ['not one h1']),
          ...[...document.querySelectorAll('section:not(:has(> h2))')].map((e) => `no heading: ${e.id}`),
          ...[...document.querySelectorAll('table:not(:has(> caption))')]
            .map((e) => `no caption: ${e.outerHTML.slice(0, 60)}`),
          ...[...document.querySelectorAll('th:not([scope])')].map((e) => `no scope: ${e.textContent}`),
          ...[...document.querySelectorAll('svg.plot:not([aria-label]), img:not([alt]), canvas:not([aria-label])')]
            .map((e) => `says nothing: ${e.outerHTML.slice(0, 60)}`),
          ...[...document.querySelectorAll('input')].filter((e) => !e.labels.length && !e.ariaLabel)
            .map((e) => `no label: ${e.outerHTML.slice(0, 60)}`),
          ...[...document.querySelectorAll('a[href^="#"]')].filter((e) => !document.getElementById(e.hash.slice(1)))
            .map((e) => `leads nowhere: ${e.hash}`),
        ]"""
    )
    return found


def check(browser: Browser, file: Path) -> None:
    """What holds of every page, dark at 800 pixels: no error, no request, nothing sideways, no need of a mouse."""
    with opened(browser, file, viewport={"width": NARROW, "height": 900}, color_scheme="dark") as page:
        assert overflow(page) == []
        assert not faults(page), faults(page)
        paper, ink = page.evaluate(
            "(({ backgroundColor, color }) => [backgroundColor, color])(getComputedStyle(document.body))"
        )
        assert brightness(paper) < 60 < 200 < brightness(ink)
        reached(page)
        answers(page)


def reached(page: Page) -> None:
    """The keyboard can pass over what comes before the content, and shows where it is."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def answers(page: Page) -> None:
    """Every plot tells of its marks by key, the first of each kind by pointer; a table sorts by key."""
    plots = page.locator("svg.plot[tabindex]")
    assert plots.count()
    silent = plots.evaluate_all(
        """(plots) => plots.filter((svg) => {
          svg.focus();
          svg.dispatchEvent(new KeyboardEvent("keydown", { key: "End" }));
          const tip = document.getElementById("tip");
          return tip.hidden || !tip.textContent;
        }).map((svg) => svg.getAttribute("aria-label"))"""
    )
    assert silent == []
    tip = page.locator("#tip")
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    for mark in (page.locator("svg.plot[data-points]").first, page.locator("svg.plot [data-tip]").first):
        if mark.count():
            mark.hover(force=True)  # the line through it may lie on top
            assert tip.is_visible()
            page.mouse.move(1, 1)
            assert tip.is_hidden()
    page.locator("table[data-sortable] th button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort=ascending]").count() == 1


def brightness(colour: str) -> float:
    """Of ``rgb(…)``, from 0 to 255."""
    return sum(float(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")) / 3
