"""What is shown of a comparison, against numbers made another way; and what is refused."""

from __future__ import annotations

import csv
import re
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import UsageError
from experiments.comparison import words
from experiments.comparison.compute import Comparison, compare
from experiments.comparison.files import write
from experiments.comparison.measured import FACTS, CaseScore, Evaluated, rows_of_run, scores
from experiments.comparison.pool import pools
from experiments.pages.words import leading
from experiments.run_folder import RunFolder
from tests.experiments.fake_runs import finish
from tests.experiments.reported_run import make_run
from tests.experiments.rich_run import enrich

Command = Callable[..., tuple[int, str, str]]


def run(method: str, seed: int, gain: float = 0.0, source: str = "here", fold: int = 0, failures: int = 0) -> Evaluated:
    """A made-up evaluation: two test cases of the source, which are the fold's own, and three held-out sites."""
    rng = np.random.default_rng([seed, fold, *method.encode(), *source.encode()])
    sites = {source: [f"{source}{2 * fold}", f"{source}{2 * fold + 1}"]}
    sites |= {site: [f"{site}{n}" for n in range(size)] for site, size in (("a", 7), ("b", 5), ("c", 3))}
    cases = []
    for site, names in sites.items():
        for number, name in enumerate(names):
            hard = np.random.default_rng([number, *site.encode()]).normal(0, 0.1)
            dice = float(np.clip(0.6 + hard + rng.normal(0, 0.01) + (gain if site != source else 0), 0, 1))
            failed = site == "c" and number < failures
            values = {"dice": 0.0 if failed else dice, "nsd": dice / 2, "hd95": 100 * (1 - dice)}
            facts = {"reference_volume_ml": 60.0 + 3 * number, "slice_mm": 1.0 + number % 2, "ring_hu": 9 * hard}
            cases.append(CaseScore(site, name, values, failed, name, facts))
    roles = {site: "source_test" if site == source else "held_out" for site in sites}
    return Evaluated(method, source, seed, fold, roles, tuple(cases), 0.8, {"tolerance_mm": 2.0}, f"{method}-{seed}")


def table(runs: list[Evaluated], reference: str = "plain", look: str = "test") -> Comparison:
    return compare(pools(runs), reference, "a study", "about <it>", look)


@pytest.fixture(scope="module")
def found() -> Comparison:
    gains = {"plain": 0.0, "better": 0.04, "much better": 0.08, "worse": -0.04, "alike": 0.0}
    failures = {"worse": 1}
    return table(
        [run(name, seed, gain, failures=failures.get(name, 0)) for seed in (0, 1, 2) for name, gain in gains.items()]
    )


def test_rows_hold_means_over_sites_seeds_and_cases() -> None:
    runs = [run("plain", seed, fold=fold, source=source) for seed in (0, 1) for fold in (0, 1) for source in ("x", "y")]
    (row,) = table(runs).rows

    def mean(metric: str, source: str, site: str) -> float:
        return statistics.fmean(
            score.values[metric] for one in runs if one.source == source for score in one.scores if score.site == site
        )

    for metric in ("dice", "nsd", "hd95"):
        expected = statistics.fmean(mean(metric, source, site) for source in ("x", "y") for site in ("a", "b", "c"))
        assert row.macro[metric].value == pytest.approx(expected)
        assert row.macro[metric].low < expected < row.macro[metric].high
    assert row.source_test is not None
    assert row.gap is not None
    assert row.source_test.value == pytest.approx((mean("dice", "x", "x") + mean("dice", "y", "y")) / 2)
    assert row.gap.value == pytest.approx(row.source_test.value - row.macro["dice"].value)
    assert row.matrix["x", "b"].value == pytest.approx(mean("dice", "x", "b"))
    assert set(row.matrix) == {(s, t) for s in ("x", "y") for t in (s, "a", "b", "c")}
    by_site = {site: (mean("dice", "x", site) + mean("dice", "y", site)) / 2 for site in ("a", "b", "c")}
    assert row.worst == min(by_site, key=by_site.__getitem__)
    assert (row.failed, row.tested, row.seeds) == (0, 8 * 15, (0, 1))


def test_differences_are_paired_by_case_after_the_seeds_were_averaged(found: Comparison) -> None:
    better, most, worse, alike = found.against
    assert [a.method for a in found.against] == ["better", "much better", "worse", "alike"]
    assert most.tests["dice"].difference.value == pytest.approx(0.08, abs=0.01)
    assert most.tests["dice"].rank_biserial == 1.0
    assert worse.tests["hd95"].rank_biserial == 1.0, "a distance grows where it is worse"
    assert len(better.cases) == 15
    # 15 differences of one sign: 2 of 2^15 dealings.
    assert most.tests["dice"].p == pytest.approx(2 / 2**15)
    assert most.tests["dice"].p_holm == pytest.approx(4 * 2 / 2**15)
    assert alike.tests["dice"].p_holm > 0.05
    assert better.tests["dice"].fixed.low > 0
    assert better.source_test is not None
    assert better.source_test.value == pytest.approx(0, abs=0.02)
    for site, value in better.sites.items():
        own = [after - before for name, _, before, after in better.cases if name == site]
        assert value.value == pytest.approx(statistics.fmean(own))


def test_a_seed_that_one_of_two_lacks_is_no_difference_between_them() -> None:
    plain = [run("plain", seed, gain) for seed, gain in ((0, 0.0), (1, 0.0), (2, -0.3))]
    part = table([*plain, run("better", 0, 0.04), run("better", 1, 0.04)])
    whole = table([*plain[:2], run("better", 0, 0.04), run("better", 1, 0.04)])
    assert part.against == whole.against
    assert [row.seeds for row in part.rows] == [(0, 1, 2), (0, 1)], "rows tell all that is known"
    (apart,) = table([*plain, run("better", 7, 0.04)]).against
    assert apart.tests["dice"].difference.value == pytest.approx(0.14, abs=0.01), "those that share none: all seeds"


def test_the_words_tell_better_from_worse_and_what_can_be_told_from_chance(found: Comparison) -> None:
    text = " ".join(words.findings(found))
    assert "much better does best" in text
    assert re.search(r"better \(\+0\.0\d+\) and much better \(\+0\.0\d+\) are better than plain", text)
    assert re.search(r"worse \(−0\.\d+\) is worse than plain", text)
    assert "alike" not in text
    # One failure outweighs the gain of all other cases.
    split = [run("plain", seed) for seed in (0, 1)] + [run("other", seed, 0.03, failures=1) for seed in (0, 1)]
    assert "other (−" in (told := " ".join(words.findings(table(split))))
    assert "neither better nor worse than plain" in told
    assert "no method can be told from" in " ".join(words.findings(table([run("plain", 0), run("alike", 0)])))


def test_sites_for_choosing_leave_the_sources_test_cases_alone(found: Comparison) -> None:
    shown = words.markdown(table([run(m, s) for m in ("plain", "other") for s in (0, 1)], look="dev"))
    assert "Look: dev." in shown
    assert "source test" not in shown
    assert "| method, source | a | b | c |" in shown
    assert "source test" in words.markdown(found)


@pytest.fixture(scope="module")
def written(found: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    assert [path.name for path in write(found, folder, "table")] == [
        "table.csv", "table_differences.csv", "table.md", "table.html",
    ]  # fmt: skip
    return folder


def test_markdown_and_csv_say_the_same(found: Comparison, written: Path) -> None:
    with (written / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = {(row["method"], row["quantity"]): row for row in rows if not row["site"]}
    text = (written / "table.md").read_text()
    for row in found.rows:
        macro = values[row.method, "held_out_dice"]
        assert float(macro["value"]) == row.macro["dice"].value
        line = next(line for line in text.splitlines() if line.startswith(f"| {row.method} | 3 |"))
        assert f"{float(macro['value']):.3f} [{float(macro['low']):.3f}, {float(macro['high']):.3f}]" in line
    assert "3 of 45 (" in text, "failures are counted over seeds"
    with (written / "table_differences.csv").open(newline="") as file:
        over_all = {r["method"]: r for r in csv.DictReader(file) if r["metric"] == "dice" and not r["site"]}
    assert {name: float(row["p_holm"]) for name, row in over_all.items()} == {
        a.method: a.tests["dice"].p_holm for a in found.against
    }


def test_the_page_stands_alone_has_every_method_and_case_and_keeps_its_bytes(found: Comparison, written: Path) -> None:
    html = (written / "table.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", html)
    assert "about &lt;it&gt;" in html
    assert html.count("<title>a · a0: ") == 4 * len(found.against), "each case answers in each scatter"
    for fact in ("Label’s volume", "Slice thickness", "HU around the pancreas"):
        assert html.count(f"<figcaption><b>{fact}</b>") == len(found.against)
    assert len(set(re.findall(r' id="([^"]+)"', html))) == len(re.findall(r' id="([^"]+)"', html))
    assert html.count("data-sortable") >= 4
    write(found, written / "again", "table")
    assert (written / "again" / "table.html").read_text() == html


def test_what_a_run_knows_of_its_scans_is_compared_with_the_difference(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=2, slices=False)
    enrich(folder)
    found = scores(rows_of_run(RunFolder(folder)), "here")
    assert {name for score in found for name in score.facts} == set(FACTS)
    assert min(score.facts["slice_mm"] for score in found if score.site == "phantom_c") > 3
    (folder / "evaluation" / "data_card.json").unlink()
    without = scores(rows_of_run(RunFolder(folder)), "here")
    assert {name for score in without for name in score.facts} == {"reference_volume_ml"}


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.779 [0.741, 0.812]", "0.779"), ("−0.036 [−0.1, 0]", "-0.036"), ("+0.5", "0.5"), ("west2 0.61 [0, 1]", "0.61"),
     ("< 0.001", "0"), ("–", ""), ("3 of 45 (2.2 %)", "3")],
)  # fmt: skip
def test_a_cell_is_sorted_by_its_first_number(text: str, number: str) -> None:
    assert leading(text) == number


def changed(one: Evaluated, **values: object) -> Evaluated:
    return replace(one, **values)  # type: ignore[arg-type]


def test_what_is_not_the_same_is_refused_by_name() -> None:
    plain, other = run("plain", 0), run("other", 0)
    wrong = {
        "plain alone has c/c2": [plain, changed(other, scores=other.scores[:-1])],
        "c/c2 is another image or label in other-0 than in plain-0": [
            plain,
            changed(other, scores=(*other.scores[:-1], replace(other.scores[-1], content="x"))),
        ],
        "other-0 was evaluated with tolerance_mm 3.0, plain-0 with 2.0": [
            plain,
            changed(other, protocol={"tolerance_mm": 3.0}),
        ],
        "seed 0 is there twice": [plain, plain, other],
        "seed 1 has other sources or folds than seed 0": [plain, run("plain", 1, fold=1)],
        "has been tested on no held-out site": [changed(plain, roles=dict.fromkeys(plain.roles, "source_test")), other],
    }
    for sentence, runs in wrong.items():
        with pytest.raises(UsageError, match=re.escape(sentence)):
            pools(runs)
    with pytest.raises(UsageError, match="there is no method 'plane' to compare with; did you mean 'plain'"):
        table([plain, other], "plane")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Runs of two experiments with two seeds each, as folders."""
    monkeypatch.chdir(tmp_path)
    made = {}
    for name, gain in (("plain", 0.0), ("better", 0.05)):
        for seed in (0, 1):
            (tmp_path / "one.yaml").write_text(f"extends: phantom_supervised.yaml\nname: {name}\nseed: {seed}\n")
            made[f"{name}{seed}"] = finish(tmp_path / "one.yaml", gain).relative_to(tmp_path)
    return made


def test_runs_of_one_name_are_its_seeds(runs: dict[str, Path], pansite: Command) -> None:
    code, out, err = pansite("compare", "runs/plain", "runs/better", "--output", "out")
    assert code == 0, err
    assert "Comparison of 4 runs" in out
    assert "Difference from plain" in out
    assert "better does best" in out
    code, told, _ = pansite("compare", f"p={runs['plain0']}", f"p={runs['plain1']}", "b=runs/better")
    assert code == 0
    assert "Difference from p" in told
    assert len(list(Path("out").iterdir())) == 4
    assert "Difference from better" in pansite("compare", "runs/plain", "runs/better", "--reference", "better")[1]


def test_runs_that_can_not_be_compared_are_refused_in_a_sentence(runs: dict[str, Path], pansite: Command) -> None:
    def refused(*given: object) -> str:
        code, out, err = pansite("compare", *given, "--output", "out")
        assert (code, out) == (2, "")
        assert not Path("out").exists()
        assert err.count("\n") == 1
        return err

    assert "give the runs" in refused()
    assert "--reference NAME" in refused("runs/plain", "b=runs/better")
    assert "no such run folder" in refused("runs/plan", "runs/better")
    Path("one.yaml").write_text("extends: phantom_supervised.yaml\nname: plain\nseed: 2\ntrainer: {max_steps: 9}\n")
    longer = finish(Path("one.yaml"))
    assert "trainer.max_steps was" in refused("runs/plain", "runs/better")
    shutil.rmtree(longer)
    Path("one.yaml").write_text("extends: phantom_supervised.yaml\nname: less\n")
    less = finish(Path("one.yaml"), without=[("west", "west_001")])
    assert "plain alone has west/west_001" in refused("runs/plain", less)
    (less / "evaluation" / "per_case.csv").unlink()
    assert "pansite evaluate" in refused("runs/plain", less)
