"""`pansite ladder`: the same patients on every rung, nothing computed twice, and what it looks at is in the ledger."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.errors import UsageError
from datamodules.layouts.phantom import PhantomSite
from datamodules.phantom import generate
from datamodules.phantom_settings import FACTORS, builtin_site, builtin_sites
from experiments.configuration import load_experiment
from experiments.evaluation import evaluate
from experiments.ladder.found import curve
from experiments.ladder.phantoms import Phantoms, refuse_own_patients
from experiments.ladder.plan import FOOT, SEED, Rung, plan
from experiments.ladder.words import names
from experiments.ledger import Ledger
from experiments.run_folder import RunFolder
from lightning_modules.config import ModelConfig
from lightning_modules.dual_ssl import DualSSLModule, Preprocessing
from lightning_modules.networks.config import DynUNetConfig
from tests.conftest import Tiny
from tests.datamodules import miniatures

Command = Callable[..., tuple[int, str, str]]
TESTED = ["pancreas_002", "pancreas_003"]
SHORT = ("--levels", "1", "--factors", "hu_shift,blur")


@pytest.fixture(scope="module")
def made(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of one split, on sites that take no time to make: one at 6 mm, one at 9 mm."""
    home = tmp_path_factory.mktemp("ladder")
    scans = miniatures.scans(5, first=40)
    source, there = miniatures.msd(home / "source", scans[:3]), miniatures.flare22(home / "there", scans[3:])
    for name, edge in (("fine", 6.0), ("coarse", 9.0)):
        file = home / f"{name}.yaml"
        file.write_text(
            f"extends: {tiny.file}\nname: {name}\ndata:\n"
            f"  source: {{name: here, layout: msd, root: {source}}}\n"
            f"  held_out: {{there: {{layout: flare22, root: {there}}}}}\n"
            f"  store: {home / 'store'}\n  spacing: [{edge}, {edge}, {edge}]\n"
        )
        run = RunFolder(home / "runs" / name / "0123456789")
        run.describe(load_experiment(file).yaml, [], {"train": ["pancreas_001"], "validation": [], "test": TESTED})
        _save(run.checkpoints / "best.ckpt", edge)
    return home


def _save(path: Path, edge: float) -> None:
    model = ModelConfig(network=DynUNetConfig(filters=(4, 8, 16)))
    model.contrastive.weight = model.restoration.weight = 0.0
    module = DualSSLModule(model, Preprocessing((edge,) * 3, (-100.0, 240.0), (16, 16, 16)), seed=3)
    path.parent.mkdir()
    state = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), "global_step": 5}
    torch.save({**state, "pytorch-lightning_version": "2.6.6"}, path)


@pytest.fixture(autouse=True)
def _by_hu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network take for pancreas what has a pancreas' HU, so that a shift of the HU has to cost it most."""

    def forward(self: DualSSLModule, image: torch.Tensor) -> torch.Tensor:
        return (0.12 - (image - 210 / 340).abs()) * 100

    monkeypatch.setattr(DualSSLModule, "forward", forward)


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """The runs, to be written to; the store is the other tests' too."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    return tmp_path


def _cells(home: Path, name: str = "fine") -> dict[str, int]:
    found = (home / "runs" / name).glob("*/ladder/*/cells/*/*.json")
    return {f"{file.parent.name}/{file.stem}": file.stat().st_mtime_ns for file in found}


def _json(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "ladder.json").read_text("utf-8"))
    return found


def test_level_0_is_what_the_evaluation_measures_and_the_costliest_factor_is_named(
    home: Path, pansite: Command
) -> None:
    run = home / "runs" / "fine" / "0123456789"
    code, out, err = pansite("ladder", run, "--on", "source", *SHORT)
    assert code == 0, err
    evaluate(load_experiment(run / "config.yaml").config, RunFolder(run))
    for case in TESTED:
        foot = json.loads((run / "ladder" / "images_of_here" / "cells" / "foot" / f"{case}.json").read_text())
        evaluated = json.loads((run / "evaluation" / "cases" / "here" / f"{case}.json").read_text())
        known = {name: value for name, value in foot["metrics"].items() if value is not None}
        assert evaluated["metrics"].items() >= known.items()
        assert foot["metrics"]["dice"] > 0.5
    written = _json(run / "ladder" / "images_of_here")
    (own,) = written["runs"]  # type: ignore[misc]
    assert own["by_cost"] == ["hu_shift", "blur"]  # type: ignore[index]
    assert "At level 1 hu shift costs most: −" in out
    assert "two cases of the test split of here. " in out.lower()
    assert "where a method or a setting is chosen by this ladder" in out, "a test that is chosen by is none"


def test_finished_cells_are_kept_and_what_is_missing_or_stale_is_computed(home: Path, pansite: Command) -> None:
    words = ("ladder", home / "runs" / "fine", "--on", "here", *SHORT)
    assert "6 cells of the ladder, 6 of them still missing" in pansite(*words)[1]
    folder = home / "runs" / "fine" / "0123456789" / "ladder" / "images_of_here"
    page = (folder / "ladder.html").read_bytes()
    before = _cells(home)
    (folder / "cells" / "foot" / f"{TESTED[0]}.json").unlink()
    (folder / "cells" / "blur_1" / f"{TESTED[1]}.json").write_text("{")
    (folder / "cells" / "blur_1" / ".x.json.abc.part").write_text("half")
    assert "6 cells of the ladder, 2 of them still missing" in pansite(*words)[1]
    after = _cells(home)
    altered = {name for name in before if before[name] != after[name]}
    assert altered == {f"foot/{TESTED[0]}", f"blur_1/{TESTED[1]}"}
    assert (folder / "ladder.html").read_bytes() == page
    assert not list(folder.rglob("*.part"))
    # A level or a factor more takes up what is there; other settings of inference do not.
    more = ("ladder", home / "runs" / "fine", "--on", "here", "--levels", "0,0.5,1", "--factors", "hu_shift")
    assert "6 cells of the ladder, 2 of them still missing" in pansite(*more)[1]
    assert "6 of them still missing" in pansite(*words, "overlap=0.1")[1]
    assert {file.stem for file in (folder / "slices").iterdir()} == {"foot", "hu_shift_0.5", "hu_shift_1", "blur_1"}


def test_runs_are_compared_on_one_ladder_and_written_where_it_is_said(
    home: Path, pansite: Command, tmp_path: Path
) -> None:
    runs = [home / "runs" / name for name in ("fine", "coarse")]
    out = tmp_path / "out"
    code, told, err = pansite("ladder", *runs, "--on", "source", *SHORT, "--output", out)
    assert code == 0, err
    assert "Against fine" in told
    with (out / "ladder.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["run"], row["factor"], row["level"], row["case"]) for row in rows} == {
        (run, factor, level, case)
        for run in ("fine", "coarse") for factor in ("hu_shift", "blur") for level in ("0", "1") for case in TESTED
    }  # fmt: skip
    by_place = {(row["run"], row["factor"], row["level"], row["case"]): float(row["dice"]) for row in rows}
    for own in _json(out)["runs"]:  # type: ignore[attr-defined]
        name = own["name"]
        for factor, found in own["factors"].items():
            start, end = ([by_place[name, factor, level, case] for case in TESTED] for level in ("0", "1"))
            assert found["dice"][1]["mean"][0] == pytest.approx(np.mean(end))
            assert found["dice"][1]["change"][0] == pytest.approx(np.mean(end) - np.mean(start))
    page = (out / "ladder.html").read_text("utf-8")
    assert page.count('class="plot"') >= 5
    assert page.count("data:image/png") == 4, "both factors at both levels"
    assert "fine" in page
    assert "coarse" in page
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)|url\((?!#)|@import", page), "it stands alone"
    # Several runs without a place of their own go beside the runs.
    assert pansite("ladder", *runs, "--on", "source", *SHORT, f"run.root={home / 'runs'}")[0] == 0
    assert len(list((home / "runs" / "ladders").glob("fine+coarse-*/images_of_here/ladder.html"))) == 1


def test_a_ladder_on_a_held_out_site_is_a_look_and_is_written_down_once(
    home: Path, pansite: Command, tmp_path: Path
) -> None:
    run, ledger = home / "runs" / "fine" / "0123456789", Ledger(tmp_path / "store" / "ledger.jsonl")
    store = f"data.store={tmp_path / 'store'}"
    assert pansite("ladder", run, "--on", "source", *SHORT, store)[0] == 0
    assert ledger.entries() == [], "the source's test cases are no held-out ones"
    code, told, err = pansite("ladder", run, "--on", "there", *SHORT, store)
    assert code == 0, err
    assert "They had never been looked at before." in told
    assert [entry["event"] for entry in ledger.entries()] == ["begun", "done"]
    assert all(list(entry["sites"]) == ["there"] for entry in ledger.entries())
    assert "none of them still missing" in pansite("ladder", run, "--on", "there", *SHORT, store)[1]
    assert len(ledger.entries()) == 2, "the same ladder again is no new look"
    summary = evaluate(load_experiment(run / "config.yaml", [store]).config, RunFolder(run))
    assert summary["looks_before"] == {"there": 1}


def test_phantoms_are_of_no_site_and_differ_in_the_factor_alone(home: Path, pansite: Command) -> None:
    assert SEED not in {site.seed for site in builtin_sites().values()}
    code, told, err = pansite("ladder", home / "runs" / "fine", "--cases", "1", "--levels", "1", "--factors", "noise")
    assert code == 0, err
    assert "no held-out case was looked at" in told
    assert set(_cells(home)) == {"foot/phantom_000", "noise_1/phantom_000"}
    scans = Phantoms(1)
    foot, noisy = (scans.scan("phantom_000", rung) for rung in (FOOT, Rung("noise", 1.0)))
    plain = generate(builtin_site("source").altered(1, SEED, dict.fromkeys(FACTORS, 0.0)), 0)
    assert np.array_equal(foot.image.data[0].numpy(), plain.image)
    assert np.array_equal(foot.label, noisy.label)
    assert np.array_equal(foot.affine, noisy.affine)
    assert float((noisy.image.data - foot.image.data).abs().mean()) > 5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--on", "ther"], "--on: the run has no site 'ther'; did you mean 'there'?"),
        (["--factors", "blurr", "--on", "here"], "--factors: there is no factor 'blurr'; did you mean 'blur'?"),
        (["--factors", "blur"], "--factors: there is no factor 'blur'; known: phase, noise, "),
        (["--levels", "0,1.5"], "--levels: 1.5 is not among the levels, which go from 0 to 1."),
        (["--levels", "0"], "--levels: a ladder needs a level above 0"),
        (["--levels", "much"], "--levels: write numbers from 0 to 1 with commas, such as 0,0.5,1, not 'much'."),
        (["--cases", "0"], "--cases: expects a whole number of at least 1, not '0'."),
        (["seed=1"], "seed: decides what is trained"),
        (["checkpoint=last"], "no last.ckpt yet"),
    ],
)
def test_a_mistake_is_one_sentence(home: Path, pansite: Command, words: list[str], sentence: str) -> None:
    code, _, err = pansite("ladder", home / "runs" / "fine", *words)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not _cells(home)


def test_runs_that_know_different_cases_are_not_compared(home: Path, pansite: Command) -> None:
    split = home / "runs" / "coarse" / "0123456789" / "split.json"
    split.write_text(split.read_text().replace(TESTED[1], "pancreas_001"))
    code, _, err = pansite("ladder", home / "runs" / "fine", home / "runs" / "coarse", "--on", "source", *SHORT)
    assert code == 2
    assert "has other cases there than" in err


def test_a_run_that_was_trained_on_the_ladders_patients_is_refused() -> None:
    refuse_own_patients("run", PhantomSite(name="a"))
    with pytest.raises(UsageError, match="trained on the ladder's own patients"):
        refuse_own_patients("run", PhantomSite(name="a", seed=SEED))


def test_a_change_is_taken_case_by_case_and_lost_from_is_where_it_stays_below_0() -> None:
    start = np.linspace(0.3, 0.9, 8)
    jitter = np.array([1, -1, 1, -1, 1, -1, 1, -1]) * 0.001
    found = curve(np.stack([start, start + jitter, start - 0.1 + jitter, start - 0.2]), (0.0, 0.25, 0.5, 1.0))
    assert found.cost.value == pytest.approx(-0.2)
    assert found.cost.high - found.cost.low < 1e-9 < found.means[-1].high - found.means[-1].low
    assert found.lost_from == 0.5
    assert curve(np.stack([start, start - 0.1, start]), (0.0, 0.5, 1.0)).lost_from is None, "it came back"


def test_a_plan_has_each_rung_once_and_starts_at_0() -> None:
    made = plan(Phantoms.factors, ["noise", "phase", "noise"], [1.0, 0.5, 0.5])
    assert made.levels == (0.0, 0.5, 1.0)
    assert [rung.name for rung in made.rungs()] == ["foot", "noise_0.5", "noise_1", "phase_0.5", "phase_1"]
    assert made.rung("noise", 0.0) == FOOT
    assert asdict(made.rung("noise", 0.5)) == {"factor": "noise", "level": 0.5}


def test_runs_are_called_by_what_tells_them_apart() -> None:
    assert names([("a", 0, "x"), ("b", 0, "y")]) == ["a", "b"]
    assert names([("a", 0, "x"), ("a", 1, "y")]) == ["a seed 0", "a seed 1"]
    assert names([("a", 0, "x"), ("a", 0, "y")]) == ["a x", "a y"]
