"""The report: one page that holds everything, harms nobody and says the same twice."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import statistics
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from datamodules.errors import UsageError
from experiments.pages.words import number
from experiments.report.collect import collect, read_curves
from experiments.report.overlays import overlays, read_slices
from experiments.report.overview import overview, palette, pictured
from experiments.report.page import render, write_report
from experiments.report.viewer import Viewed, viewed
from experiments.report.words import summary
from tests.experiments.rich_run import SHAPE, enrich

SITES = {"phantom_source": 0.86, "phantom_b": 0.74, "phantom_a": 0.79, "phantom_d": 0.55, "phantom_c": 0.68}
COLUMNS = (
    "site", "case", "dice", "nsd", "hd95", "assd", "precision", "recall", "volume_ml", "reference_volume_ml",
    "empty_prediction", "empty_reference",
)  # fmt: skip
REGIONS = ("head_core", "head_rim", "body_core", "body_rim", "tail_core", "tail_rim", "near", "mid", "far")
EVIL = '<img src=x onerror="document.title=1">&$x'


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


def make_run(root: Path, *, cases: int = 12, first_case: str | None = None, slices: bool = True) -> Path:
    """A run folder as ``fit`` and ``evaluate`` leave it: five sites, plausible numbers, a failure."""
    rng = np.random.default_rng(7)
    folder = root / "phantom_dual_ssl" / "3f9a1c07b2de"
    evaluation = folder / "evaluation"
    evaluation.mkdir(parents=True)
    held_out = "\n".join(f"    {name}: {{layout: phantom}}" for name in list(SITES)[1:])
    (folder / "config.yaml").write_text(
        "name: phantom_dual_ssl\nseed: 0\ndata:\n  source: {name: phantom_source, layout: phantom}\n"
        f"  held_out:\n{held_out}\n  spacing: [3.0, 3.0, 3.0]\n  patch_size: [48, 48, 48]\n"
        "trainer: {max_steps: 1800}\n"
    )
    (folder / "overrides.txt").write_text("trainer.max_steps=1800\n")
    environment = {"packages": {"torch": "2.13.0", "wandb": None}, "git": {"commit": "abc", "changed": False}}
    (folder / "environment.json").write_text(json.dumps({**environment, "gpus": []}))
    split = {part: [f"case_{n:03d}" for n in range(20)] for part in ("train", "validation", "test")}
    (folder / "split.json").write_text(json.dumps(split))
    rows = [_row(rng, site, f"case_{n:03d}", mean, n) for site, mean in SITES.items() for n in range(cases)]
    if first_case is not None:
        rows[0]["case"] = first_case
    with (evaluation / "per_case.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (evaluation / "summary.json").write_text(json.dumps(_summary(rows)))
    reason = {"case_099": "image 4-D (512×512×90×2), a 3-D volume is wanted"}
    (evaluation / "excluded.json").write_text(json.dumps({"phantom_a": reason, "phantom_b": {}}))
    _metrics(rng, folder / "metrics.csv")
    if slices:
        for row in rows:
            _slices(rng, evaluation / "overlays" / row["site"] / f"{row['case']}.npz", row["dice"])
    return folder


def _row(rng: np.random.Generator, site: str, case: str, mean: float, n: int) -> dict[str, Any]:
    empty = site == "phantom_d" and n == 3
    dice = 0.0 if empty else float(np.clip(rng.normal(mean, 0.3 * (1 - mean) + 0.02), 0.02, 0.97))
    volume = float(rng.normal(80, 20))
    return {
        "site": site, "case": case, "dice": dice, "nsd": dice**0.7 if dice else 0.0,
        "hd95": 511.3 if empty else 3 + 60 * (1 - dice) ** 1.5, "assd": 511.3 if empty else 12 * (1 - dice) ** 1.4,
        "precision": "" if empty else min(1.0, dice + 0.05), "recall": max(0.0, dice - 0.03),
        "volume_ml": 0.0 if empty else volume * (0.8 + 0.3 * dice), "reference_volume_ml": volume,
        "empty_prediction": empty, "empty_reference": False,
    }  # fmt: skip


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    sites: dict[str, Any] = {}
    for site in sorted(SITES):
        own = [row for row in rows if row["site"] == site]
        sites[site] = {"role": "source_test" if site == "phantom_source" else "held_out", "n": len(own)}
        for metric in ("dice", "nsd", "hd95", "assd"):
            values = [row[metric] for row in own]
            sd = statistics.stdev(values) if len(values) > 1 else None
            sites[site][metric] = {"mean": statistics.mean(values), "sd": sd, "median": statistics.median(values)}
        sites[site] |= {"failures": sum(row["empty_prediction"] for row in own), "both_empty": 0}
    metrics = ("dice", "nsd", "hd95", "assd")
    macro = {m: statistics.mean(sites[s][m]["mean"] for s in sites if s != "phantom_source") for m in metrics}
    return {
        "checkpoint": {"name": "best.ckpt", "step": 1650, "sha256": "5d41" * 16},
        "tolerance_mm": 2.0,
        "sites": sites,
        "held_out_macro": macro,
        "gap": {m: sites["phantom_source"][m]["mean"] - macro[m] for m in metrics},
        "location_prior": dict.fromkeys(sites, 0.31) | {"phantom_d": 0.35},
    }


def _metrics(rng: np.random.Generator, path: Path) -> None:
    levels = {"segmentation": (1.4, 0.25), "contrastive": (4.6, 2.9), "restoration": (0.06, 0.008)}
    names = [f"loss/{t}" for t in levels] + [f"grad_norm/{t}" for t in levels] + [f"fill/{r}" for r in REGIONS]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", *names, "val/dice"])
        writer.writeheader()
        for step in range(10, 1801, 10):
            row: dict[str, Any] = {"step": step}
            for term, (high, low) in levels.items():
                level = low + (high - low) * np.exp(-step / 300)
                row[f"loss/{term}"] = level * rng.lognormal(0, 0.12)
                row[f"grad_norm/{term}"] = level * rng.lognormal(-0.7, 0.3)
            row |= {f"fill/{r}": min(1.0, rng.normal(0.97 - 0.06 * i % 0.4, 0.03)) for i, r in enumerate(REGIONS)}
            if step % 150 == 0:
                row["val/dice"] = 0.85 * (1 - np.exp(-step / 350)) + rng.normal(0, 0.01)
            writer.writerow(row)


def _slices(rng: np.random.Generator, path: Path, dice: float) -> None:
    """Three pictures of a body with an organ in it; the axial plane is isotropic, the others have thick slices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for plane, rows in (("axial", 220), ("coronal", 90), ("sagittal", 90)):
        aspect = 220 / rows
        y, x = np.mgrid[:rows, :280].astype(float)
        y *= aspect

        def ellipse(cx: float, cy: float, a: float, b: float, y: np.ndarray = y, x: np.ndarray = x) -> np.ndarray:
            return ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1

        image = 20.0 + 90 * ellipse(140, 110, 130, 98) + 60 * ellipse(85, 90, 55, 50) + 90 * ellipse(140, 170, 18, 16)
        bend = 14 * np.sin(x / 22)
        label = (((x - 160) / 48) ** 2 + ((y - 110 + bend) / 13) ** 2) < 1
        shift = 24 * (1 - dice)
        prediction = (((x - 160 - shift) / 46) ** 2 + ((y - 110 + bend + shift / 3) / 12) ** 2 < 1) & (dice > 0)
        edge = np.exp(-((((x - 160) / 48) ** 2 + ((y - 110 + bend) / 13) ** 2 - 1) ** 2) / 0.4)
        image = np.clip(image + 35 * label + rng.normal(0, 13, image.shape), 0, 255)
        arrays |= {
            f"{plane}_image": image.astype(np.uint8),
            f"{plane}_label": label.astype(np.uint8),
            f"{plane}_prediction": prediction.astype(np.uint8),
            f"{plane}_uncertainty": (230 * edge).astype(np.uint8),
            f"{plane}_aspect": aspect,
        }
    np.savez_compressed(path, **arrays)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def test_the_report_stands_in_the_evaluation_folder_under_ten_megabytes(run: Path, html: str) -> None:
    assert write_report(run) == run / "evaluation" / "report.html"
    assert len(html.encode()) < 10_000_000
    assert [path.name for path in (run / "evaluation").glob(".*")] == []


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


def test_the_same_run_gives_the_same_bytes(run: Path, html: str) -> None:
    assert write_report(run).read_text(encoding="utf-8") == html


def test_the_source_comes_first_then_the_sites_in_the_order_of_the_configuration(run: Path, html: str) -> None:
    assert [site.name for site in collect(run).sites] == list(SITES)
    headings = re.findall(r'<h3><i class="key [a-z-]+"></i>(\w+)', html)
    assert headings == list(SITES)


def test_the_table_says_how_was_measured(html: str) -> None:
    caption = " ".join(re.findall(r"<caption>(.*?)</caption>", html, flags=re.S)[0].split())
    for word in ("2 mm", "native grid", "no case is left out", "diagonal", "both are empty"):
        assert word in caption


def test_every_number_of_the_summary_is_on_the_page(run: Path, html: str) -> None:
    results = collect(run)
    table = html[html.index('id="sites"') : html.index('id="pictures"')]
    for site in results.sites:
        assert f"<b>{number(site.dice)}</b>" in table
        assert number(site.statistics["hd95"].mean, 1) in table
        assert number(site.location_prior) in table
    assert number(results.macro["dice"]) in table
    assert number(results.gap["dice"]) in table


def test_every_case_is_a_row_and_a_dot_that_answers(run: Path, html: str) -> None:
    body = html[html.index('<table class="cases"') :]
    assert body[: body.index("</table>")].count("<tr>") == 12 * len(SITES) + 1
    assert len(re.findall(r"<title>phantom_\w+ · case_\d+: Dice \d\.\d+</title>", html)) == 12 * len(SITES)
    assert "empty prediction" in body


def test_the_summary_says_plainly_what_was_found(run: Path) -> None:
    text = " ".join(summary(collect(run)))
    assert "Trained on phantom_source alone" in text
    assert "four held-out sites" in text
    assert "worst on phantom_d" in text
    assert "failed outright on 1 of 60 cases: phantom_d (1)" in text
    assert "better than a location prior" in text


def test_the_worst_and_the_median_case_are_shown(run: Path) -> None:
    results = collect(run)
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


def test_a_volume_that_is_something_else_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=1, slices=False)
    enrich(folder)
    path = folder / "evaluation" / "volumes" / "phantom_a" / "case_000.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(UsageError, match=re.escape(f"{path}: not the volume of a case")):
        write_report(folder)


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


def test_of_thousands_of_cases_the_worst_are_told_and_the_page_stays_small(run: Path) -> None:
    results = collect(run)
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


def test_a_step_that_was_logged_twice_counts_once_and_the_later_row_wins(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss/total,val/dice\n1,5,\n3,4,0.2\n2,9,\n3,3,\n")
    curves = read_curves(path)
    assert (curves["loss/total"].steps, curves["loss/total"].values) == ((1, 2, 3), (5.0, 9.0, 3.0))
    assert (curves["val/dice"].steps, curves["val/dice"].values) == ((3,), (0.2,))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.yaml").unlink(), "not a run folder"),
        (lambda f: (f / "evaluation/summary.json").unlink(), "has not been evaluated yet"),
        (lambda f: (f / "evaluation/per_case.csv").unlink(), "per_case.csv: can't be read"),
        (lambda f: (f / "evaluation/summary.json").write_text("{"), "summary.json: not readable JSON"),
        (lambda f: (f / "evaluation/summary.json").write_text("{}"), "summary.json: not a summary"),
        (lambda f: (f / "metrics.csv").write_text("step,a\n1,b\n"), "metrics.csv, line 2: not a row"),
        (lambda f: (f / "config.yaml").write_text("a: [1\nb: :"), "config.yaml: not readable YAML"),
    ],
)
def test_what_is_no_evaluated_run_is_refused_in_one_sentence(tmp_path: Path, damage: Any, message: str) -> None:
    folder = make_run(tmp_path, cases=1, slices=False)
    damage(folder)
    with pytest.raises(UsageError, match=message) as error:
        write_report(folder)
    assert "\n" not in str(error.value)
    assert not (folder / "evaluation" / "report.html").exists()


def test_slices_that_are_something_else_are_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cases=1)
    path = folder / "evaluation" / "overlays" / "phantom_a" / "case_000.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(UsageError, match=re.escape(str(path))):
        write_report(folder)


@pytest.fixture(scope="module")
def picture(run: Path, html: str) -> Path:
    return run / "evaluation" / "overview.png"


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


def test_the_same_run_gives_the_same_picture_whatever_matplotlib_is_set_to(run: Path, picture: Path) -> None:
    with mpl.rc_context({"font.size": 20.0, "lines.linewidth": 5.0, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert overview(collect(run)) == picture.read_bytes()


def test_the_overview_shows_every_number_that_it_is_about(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = drawn_texts(run, monkeypatch)
    results = collect(run)
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


def test_of_many_sites_the_overview_pictures_the_best_the_worst_and_some_between(run: Path) -> None:
    results = collect(run)
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
