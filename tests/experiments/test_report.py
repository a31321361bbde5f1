"""The report: one page that holds everything, harms nobody and says the same twice."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from experiments.pages.words import number
from experiments.report.collect import collect, read_curves
from experiments.report.page import render, write_report
from experiments.report.words import summary
from tests.experiments.reported_run import EVIL, SITES, make_run
from tests.experiments.rich_run import enrich


class Page(HTMLParser):
    """The text of the page, its elements, and every attribute that could make a browser fetch or run something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}:
                self.references.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_stands_in_the_evaluation_folder_under_ten_megabytes(reported: Path, html: str) -> None:
    assert len(html.encode()) < 10_000_000
    assert [path.name for path in (reported / "evaluation").glob(".*")] == []


def test_the_page_refers_to_nothing_outside_itself(html: str) -> None:
    page = Page(html)
    assert page.references, "contents and pictures are references"
    outside = [r for r in page.references if not r.startswith(("data:image/png;base64,", "#"))]
    assert outside == []
    assert {r[1:] for r in page.references if r.startswith("#")} <= set(page.ids)
    styles_and_scripts = "".join(re.findall(r"<(?:style|script)>(.*?)</(?:style|script)>", html, flags=re.S))
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|fetch|XMLHttp", styles_and_scripts)
    assert not re.search(r"url\((?!#)", html)
    assert not re.search(r"https?://", html)
    assert "default-src 'none'" in html


def test_ids_are_unique_on_the_page(html: str) -> None:
    ids = Page(html).ids
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_bytes(reported: Path, html: str) -> None:
    assert write_report(reported).read_text(encoding="utf-8") == html


def test_the_source_comes_first_then_the_sites_in_the_order_of_the_configuration(reported: Path, html: str) -> None:
    assert [site.name for site in collect(reported).sites] == list(SITES)
    headings = re.findall(r'<h3><i class="key [a-z-]+"></i>(\w+)', html)
    assert headings == list(SITES)


def test_the_table_says_how_was_measured(html: str) -> None:
    caption = " ".join(re.findall(r"<caption>(.*?)</caption>", html, flags=re.S)[0].split())
    for word in ("2 mm", "native grid", "no case is left out", "diagonal", "both are empty"):
        assert word in caption


def test_every_number_of_the_summary_is_on_the_page(reported: Path, html: str) -> None:
    results = collect(reported)
    table = html[html.index('id="sites"') : html.index('id="pictures"')]
    for site in results.sites:
        assert f"<b>{number(site.dice)}</b>" in table
        assert number(site.statistics["hd95"].mean, 1) in table
        assert number(site.location_prior) in table
    assert number(results.macro["dice"]) in table
    assert number(results.gap["dice"]) in table


def test_every_case_is_a_row_and_a_dot_that_answers(reported: Path, html: str) -> None:
    body = html[html.index('<table class="cases"') :]
    assert body[: body.index("</table>")].count("<tr>") == 12 * len(SITES) + 1
    assert len(re.findall(r"<title>phantom_\w+ · case_\d+: Dice \d\.\d+</title>", html)) == 12 * len(SITES)
    assert "empty prediction" in body


def test_the_summary_says_plainly_what_was_found(reported: Path) -> None:
    text = " ".join(summary(collect(reported)))
    assert "Trained on phantom_source alone" in text
    assert "four held-out sites" in text
    assert "worst on phantom_d" in text
    assert "failed outright on 1 of 60 cases: phantom_d (1)" in text
    assert "better than a location prior" in text


def test_whatever_else_was_measured_is_in_the_tables(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=3, slices=False)
    enrich(folder)
    html = write_report(folder).read_text(encoding="utf-8")
    heads = re.findall(r'<th scope="col" data-number class="more">(.*?)</th>', html)
    assert heads[:4] == ["Recall head", "Recall body", "Recall tail", "Band Dice"]
    assert 'Volume error <span class="sub">ml</span>' in heads
    further = html[html.index("Beside overlap and distance") : html.index('id="pictures"')]
    assert "ECE" in further
    assert "0.81" in further, "whether the model knows where it errs"
    assert "Uncertainty" in html[html.index('id="reasons"') :], "and a plot of it"
    assert "voxel edges of 0.7 to 5 mm" in html
    assert 'class="great"' in html[html.index('id="data"') :], "how the sites differ"
    assert "These held-out sites had been looked at twice before." in html
    summary_hash = hashlib.sha256((folder / "evaluation" / "summary.json").read_bytes()).hexdigest()
    assert summary_hash in html


def test_of_thousands_of_cases_the_worst_are_told_and_the_page_stays_small(reported: Path) -> None:
    results = collect(reported)
    many = [
        replace(site, cases=tuple(replace(case, case=f"{case.case}_{n}") for n in range(60) for case in site.cases))
        for site in results.sites
    ]
    page = render(replace(results, sites=tuple(many)))
    assert len(page.encode()) < 10_000_000
    assert page.count('<th scope="row">') >= 2000
    assert "the 1600 best are in <code>per_case.csv</code> alone" in page


def test_a_name_with_html_does_no_harm(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=2, first_case=EVIL)
    config = folder / "config.yaml"
    config.write_text(config.read_text() + "note: '</pre><script>alert(1)</script>'\n")
    excluded = {"phantom_a": {EVIL: "</td><script>alert(1)</script>"}, "<svg onload=alert(1)>": {"x": "y"}}
    (folder / "evaluation" / "excluded.json").write_text(json.dumps(excluded))
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert page.handlers == []
    assert EVIL in page.text, "it is shown as it is"


def test_a_supervised_run_and_single_cases_have_a_page_too(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=1, slices=False)
    (folder / "metrics.csv").write_text("step,loss/segmentation,val/dice\n1,0.9,\n2,0.8,0.5\n")
    for name in ("overrides.txt", "environment.json", "evaluation/excluded.json"):
        (folder / name).unlink()
    summary_json = json.loads((folder / "evaluation" / "summary.json").read_text())
    summary_json["sites"] = {"phantom_source": summary_json["sites"]["phantom_source"]}
    summary_json |= {"held_out_macro": {}, "gap": {}, "location_prior": {}}
    (folder / "evaluation" / "summary.json").write_text(json.dumps(summary_json))
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "No held-out site was evaluated." in page.text
    assert "No slices were kept for this case." in page.text
    assert "Gradient norms" not in page.text
    assert "± –" in page.text, "one case has no standard deviation"


def test_the_losses_of_a_rival_are_drawn_too(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=1, slices=False)
    (folder / "metrics.csv").write_text(
        "step,loss/segmentation,loss/consistency,loss/skeleton,grad_norm/consistency\n1,0.9,0.8,0.7,0.3\n2,0.8,0.5,0.6,0.25\n"
    )
    page = write_report(folder).read_text(encoding="utf-8")
    assert "segmentation ends at 0.8; consistency ends at 0.5; skeleton ends at 0.6" in page
    assert "consistency ends at 0.25" in page


def test_a_step_that_was_logged_twice_counts_once_and_the_later_row_wins(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss/total,val/dice\n1,5,\n3,4,0.2\n2,9,\n3,3,\n")
    curves = read_curves(path)
    assert (curves["loss/total"].steps, curves["loss/total"].values) == ((1, 2, 3), (5.0, 9.0, 3.0))
    assert (curves["val/dice"].steps, curves["val/dice"].values) == ((3,), (0.2,))
