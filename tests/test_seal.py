"""Held out means held out: scans of the source are found in other sites by content; fit opens none of those."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.conftest import Tiny
from tests.datamodules import miniatures
from tests.datamodules.miniatures import Scan
from tests.kills import only_run, same

Command = Callable[..., tuple[int, str, str]]

YAML = """
extends: {tiny}
name: tiny
data:
  source: {{name: msd, layout: msd, root: {home}/Task07_Pancreas}}
  held_out:
    nih: {{layout: nih, root: {home}/nih}}
    abdomen: {{layout: abdomenct1k, root: {home}/abdomen}}
    flare: {{layout: flare22, root: {home}/flare}}
    panorama: {{layout: panorama, root: {home}/panorama}}
  store: {home}/store
trainer: {{max_steps: 2, validate_every: 2, checkpoint_every: 2}}
"""
LEAKS = {
    "abdomen/Case_00001": "msd/pancreas_001",
    "abdomen/Case_00002": "msd/pancreas_002",
    "flare/FLARE22_Tr_0001": "msd/pancreas_003",
    "panorama/100000_00001": "msd/pancreas_001",
}


@dataclass(frozen=True)
class Sites:
    """Miniature public sites that overlap as the real ones do.

    Attributes:
        file: an experiment of them.
        home: their folder, with the store.
    """

    file: Path
    home: Path


def _upper(scan: Scan) -> Scan:
    """The upper three quarters of a scan."""
    place = scan.affine.copy()
    place[:3, 3] += scan.affine[:3, 2] * 6
    return Scan(scan.hu[..., 6:], scan.label[..., 6:], place)


@pytest.fixture(scope="module")
def sites(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Sites:
    """AbdomenCT-1K, FLARE22 and PANORAMA of scans of MSD and NIH and of their own, MSD being the source."""
    home = tmp_path_factory.mktemp("sites")
    msd, nih, own = (miniatures.scans(number, first) for number, first in ((4, 0), (2, 20), (3, 40)))
    miniatures.msd(home, msd)
    miniatures.nih(home / "nih", nih)
    miniatures.abdomenct1k(home / "abdomen", [msd[0], _upper(msd[1]), nih[0], own[0]])
    miniatures.flare22(home / "flare", [msd[2], own[1]])
    miniatures.panorama(home / "panorama", [msd[0], nih[1], own[2]], ["msd", "nih", "own"])
    file = home / "sites.yaml"
    file.write_text(YAML.format(tiny=tiny.file, home=home))
    return Sites(file, home)


@pytest.fixture(scope="module")
def prepared(sites: Sites) -> Sites:
    from experiments.cli import main

    assert main(["prepare", str(sites.file)]) == 2
    return sites


@pytest.fixture(scope="module")
def finished(prepared: Sites, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that left the source's scans out."""
    from experiments.cli import main

    root = tmp_path_factory.mktemp("finished")
    assert main(["run", str(prepared.file), f"run.root={root}", "data.overlap=exclude"]) == 0
    return only_run(root)


@pytest.fixture
def elsewhere(prepared: Sites, tmp_path: Path) -> Sites:
    """The prepared sites, held-out files taken away."""
    hidden = [(prepared.home / name, tmp_path / name) for name in ("nih", "abdomen", "flare", "panorama")]
    for folder, away in hidden:
        shutil.move(folder, away)
    yield prepared  # type: ignore[misc]  # a fixture's
    for folder, away in hidden:
        shutil.move(away, folder)


def test_prepare_finds_every_scan_that_is_there_twice_and_no_other(prepared: Sites, pansite: Command) -> None:
    code, out, err = pansite("prepare", prepared.file)
    assert code == 2
    for leak, source in LEAKS.items():
        assert f"{leak} is the source's {source} (" in out
    assert "abdomen/Case_00002 is the source's msd/pancreas_002 (agreement " in out
    assert "abdomen/Case_00003 is also nih/PANCREAS_0001 (the same voxels): two held-out sites" in out
    assert "4 held-out cases are in the source too" in err
    assert "data.overlap=exclude" in err
    assert len(err.splitlines()) == 1
    card = json.loads((prepared.home / "store" / "data_cards" / "tiny.json").read_text())
    found = {"/".join(pair["scans"][1].values()) for pair in card["overlap"]["leaks"]}
    assert found == set(LEAKS)
    # NIH, which no one is to hold out from AbdomenCT-1K and PANORAMA, and the copy of MSD in these two.
    assert len(card["overlap"]["between"]) == 3
    assert card["overlap"]["within"] == []


def test_run_and_fit_refuse_before_they_train(prepared: Sites, pansite: Command, tmp_path: Path) -> None:
    for command in ("run", "fit"):
        code, _, err = pansite(command, prepared.file, f"run.root={tmp_path}")
        assert code == 2
        assert "abdomen/Case_00001 is msd/pancreas_001 (the same voxels)" in err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_fit_knows_by_the_store_alone(elsewhere: Sites, pansite: Command, tmp_path: Path) -> None:
    code, _, err = pansite("fit", elsewhere.file, f"run.root={tmp_path}")
    assert code == 2
    assert "flare/FLARE22_Tr_0001 is msd/pancreas_003" in err or "and 1 more" in err
    code, out, _ = pansite("fit", elsewhere.file, f"run.root={tmp_path}", "data.overlap=exclude")
    assert code == 0
    code, out, _ = pansite(
        "fit", elsewhere.file, f"run.root={tmp_path}", "data.held_out={new: {layout: flare22, root: /nowhere}}"
    )
    assert code == 0
    assert "held out and not prepared yet: new" in out


def test_excluded_cases_are_named_and_allowed_ones_told_for_ever(
    prepared: Sites, finished: Path, pansite: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    excluded = json.loads((run / "evaluation" / "excluded.json").read_text())
    assert {f"{site}/{case}" for site, cases in excluded.items() for case in cases} == set(LEAKS)
    assert "it is the source's msd/pancreas_001" in excluded["panorama"]["100000_00001"]
    page = (run / "evaluation" / "report.html").read_text()
    assert "it is the source&#39;s msd/pancreas_001" in page
    assert 'class="leak"' not in page
    assert "had never been looked at before" in page

    code, _, err = pansite("evaluate", run, "data.overlap=error")
    assert code == 2
    assert "4 held-out cases are in the source too" in err
    code, out, err = pansite("evaluate", run, "data.overlap=allow")
    assert code == 0, err
    assert "4 of them still missing" in out
    # The same weights: more cases of a site are written down, and are no second look at the others.
    looks = json.loads((run / "evaluation" / "summary.json").read_text())["looks_before"]
    assert looks == {"nih": 0, "abdomen": 0, "flare": 0, "panorama": 0}
    lines = [json.loads(line) for line in (prepared.home / "store" / "ledger.jsonl").read_text().splitlines()]
    assert [(line["event"], sorted(line["sites"])) for line in lines] == [
        (event, sites)
        for sites in (["abdomen", "flare", "nih", "panorama"], ["abdomen", "flare", "panorama"])
        for event in ("begun", "done")
    ]
    assert lines[-1]["sites"]["flare"]["n"] == 2
    page = (run / "evaluation" / "report.html").read_text()
    assert 'class="leak"' in page
    assert "had never been looked at before" in page
    assert "flare/FLARE22_Tr_0001 is msd/pancreas_003" in page
    # What was allowed once is not undone.
    code, out, _ = pansite("evaluate", run, "data.overlap=exclude")
    assert code == 0
    assert "none of them still missing" in out
    assert "flare/FLARE22_Tr_0001 is msd/pancreas_003" in (run / "evaluation" / "report.html").read_text()


def test_a_site_that_is_all_the_sources_is_refused_even_then(prepared: Sites, pansite: Command, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(prepared.home / "Task07_Pancreas", copy)
    sites = f"data.held_out={{copy: {{layout: msd, root: {copy}}}}}"
    words = ("run", prepared.file, f"run.root={tmp_path}", sites, "data.overlap=exclude")
    code, _, err = pansite(*words)
    assert code == 2
    assert "data.held_out.copy: all of its cases are the source's" in err


WATCHED = """
import sys
opened = []
events = ("open", "os.listdir", "os.scandir")
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in events else None)
from experiments.cli import main
code = main(sys.argv[1:])
assert any("Task07_Pancreas" in path for path in opened), "the watch does not see"
held_out = [f"HOME/{name}" for name in ("nih", "abdomen", "flare", "panorama")]
print("OPENED", *sorted({path for path in opened if any(folder in path for folder in held_out)}))
sys.exit(code)
"""


def test_fit_opens_no_held_out_file_and_they_do_not_alter_a_bit(
    prepared: Sites, finished: Path, pansite: Command, tmp_path: Path
) -> None:
    words = ["fit", str(prepared.file), "data.overlap=allow", f"data.store={tmp_path / 'store'}"]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.replace("HOME", str(prepared.home)), *words, f"run.root={tmp_path / 'with'}"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "held out and not prepared yet: nih, abdomen, flare, panorama" in done.stdout
    assert done.stdout.strip().endswith("OPENED")
    assert pansite(*words, f"run.root={tmp_path / 'without'}", "data.held_out={}")[0] == 0
    runs = [only_run(tmp_path / "with"), only_run(tmp_path / "without"), finished]
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in runs]
    assert len({run.name for run in runs}) == 1
    assert same(states[0], states[1])
    assert same(states[0], states[2])
