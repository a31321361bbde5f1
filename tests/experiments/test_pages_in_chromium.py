"""Every page but the report and the data card in a real browser: it stands, answers, and needs no mouse."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from datamodules.atomic import write_text
from experiments.comparison.page import render as comparison_page
from experiments.ladder.found import METRICS, Climb, Ladder, curve
from experiments.ladder.page import render as ladder_page
from experiments.ladder.pictures import FIELD, place_of
from experiments.ladder.plan import Factor, plan
from experiments.sweep.page import render as sweep_page
from experiments.sweep.study import Shown
from lightning_modules.metrics import CaseMetrics
from tests.browsing import check, opened
from tests.experiments.test_comparison import run as evaluated
from tests.experiments.test_comparison import table

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest_plugins = ["tests.chromium"]
pytestmark = pytest.mark.slow
EVIL = "</title><script>document.title = 'run'</script>"


def metrics(dice: float) -> CaseMetrics:
    return CaseMetrics(dice, dice**2, 20 * (1 - dice), 3 * (1 - dice), dice, dice, 60, 66, dice == 0, False)


def ladder(folder: Path, *names: str) -> str:
    """Runs on three factors: the first costs them much, the second little, the third nothing."""
    factors = [
        Factor("hu_shift", "as scanned", "40 HU up"),
        Factor("blur", "none", "2 mm"),
        Factor("noise", "0", "30 HU"),
    ]
    wanted, cases = plan(factors, (), (0.25, 0.5, 0.75, 1.0)), ("one", EVIL, "three")
    levels, climbs = np.array(wanted.levels), []
    for place, name in enumerate(names):
        cells = {
            (factor.name, case): tuple(metrics(float(d)) for d in 0.85 - 0.05 * number - cost * (1 + place) * levels)
            for factor, cost in zip(factors, (0.3, 0.05, 0.0), strict=True)
            for number, case in enumerate(cases)
        }
        curves = {
            (factor.name, metric): curve(
                np.array([[getattr(cell, metric) for cell in cells[factor.name, case]] for case in cases]).T,
                wanted.levels,
            )
            for factor in factors
            for metric in METRICS
        }
        climbs.append(Climb(name, f"runs/{name}", folder, {"name": "best.ckpt", "step": 9}, curves, cells))
    for rung in wanted.rungs():
        seen = np.hypot(*(np.indices(FIELD[::-1]) - np.array(FIELD[::-1])[:, None, None] / 2))
        path = place_of(folder, rung)
        path.parent.mkdir(exist_ok=True)
        np.savez(
            path, image=(200 - seen).clip(0).astype(np.uint8), label=seen < 30, prediction=seen < 30 - 9 * rung.level
        )
    made = Ladder("three phantoms", "phantoms", wanted.factors, wanted.levels, cases, 2.0, 0.0, tuple(climbs), ())
    return ladder_page(made, f"pansite ladder {EVIL}")


def sweep(_: Path) -> str:
    trials = [
        Shown(
            n,
            "failed" if n == 3 else "done",
            {"optimizer.lr": 10.0**-n},
            None if n == 3 else 0.5 + n / 10,
            None,
            EVIL if n == 3 else "",
        )
        for n in range(5)
    ]
    metric = SimpleNamespace(name="val/dice", maximize=True)
    planned: Any = SimpleNamespace(
        name=EVIL, experiment="mine", method="bayes", metric=metric, parameters=[SimpleNamespace(key="optimizer.lr")]
    )
    found: Any = SimpleNamespace(plan=planned, overrides=[EVIL], peeking=False)
    study: Any = SimpleNamespace(importances=lambda: {"optimizer.lr": 1.0}, mapping=lambda: [EVIL])
    return sweep_page(found, study, trials, trials[4], "pansite run mine")


PAGES: dict[str, Callable[[Path], str]] = {
    "ladder": lambda folder: ladder(folder, "plain", EVIL),
    "comparison": lambda _: comparison_page(table([evaluated(m, s) for m in ("plain", EVIL) for s in (0, 1)])),
    "sweep": sweep,
}


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "page.html"
    write_text(file, PAGES[request.param](tmp_path))
    return file


def test_it_stands_narrow_and_dark_answers_and_needs_no_mouse(browser: Browser, page: Path) -> None:
    check(browser, page)


def test_the_curves_of_a_ladder_tell_what_a_run_loses_by_a_level(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "ladder.html"
    write_text(file, ladder(tmp_path, "plain"))
    with opened(browser, file) as page:
        plot, tip = page.locator("#dice svg.plot[data-points]").first, page.locator("#tip")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
        told = (tip.text_content() or "").split("\n")
        assert told[0] == "hu shift 1"
        assert re.fullmatch(r"plain: Dice 0\.500, −0\.300 .* from 0", told[1])
        plot.focus()
        page.keyboard.press("Home")
        assert (tip.text_content() or "").startswith("hu shift 0\n")
