"""From a YAML to a report: what a run leaves, how it is continued, and that a kill costs nothing but time."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from datamodules.batch import PatchBatch
from lightning_modules.dual_ssl import DualSSLModule
from tests import launched
from tests.conftest import Tiny
from tests.kills import only_run, same

Command = Callable[..., tuple[int, str, str]]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "evaluation" / "per_case.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run that tests read and leave as it is."""
    from experiments.cli import main

    root = tmp_path_factory.mktemp("finished")
    assert main(["run", str(tiny.file), f"run.root={root}"]) == 0
    return only_run(root)


def test_a_run_leaves_all_that_it_is_known_by(finished: Path) -> None:
    for name in (
        "config.yaml", "overrides.txt", "environment.json", "split.json", "metrics.csv", "checkpoints/last.ckpt",
        "checkpoints/best.ckpt", "evaluation/per_case.csv", "evaluation/summary.json", "evaluation/report.html",
        "evaluation/data_card.json",
    ):  # fmt: skip
        assert (finished / name).stat().st_size > 0, name
    page = (finished / "evaluation" / "report.html").read_text()
    assert page.count("data-masks=") == len(list((finished / "evaluation" / "volumes").rglob("*.npz"))) == 5
    for heading in ("Slice thickness", "Uncertainty", "How the sites differ"):
        assert heading in page, heading
    assert not list(finished.rglob("*.part"))
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert "run.root=" in (finished / "overrides.txt").read_text()


def test_metrics_have_every_step_once_with_the_three_losses_their_gradients_and_every_region(finished: Path) -> None:
    with (finished / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == [str(step) for step in range(1, 7)]
    columns = set(table[0])
    assert {f"loss/{term}" for term in ("total", "segmentation", "contrastive", "restoration")} <= columns
    assert {f"grad_norm/{term}" for term in ("segmentation", "contrastive", "restoration")} <= columns
    regions = [f"{third}_{depth}" for third in ("head", "body", "tail") for depth in ("core", "rim")]
    assert {f"fill/{region}" for region in (*regions, "near", "mid", "far")} <= columns
    assert [row["step"] for row in table if row["val/dice"]] == ["3", "6"]


def test_every_case_is_measured_once_and_the_source_under_its_own_name(finished: Path) -> None:
    table = rows(finished)
    assert list(table[0])[:5] == ["site", "case", "dice", "nsd", "hd95"]
    found = [(row["site"], row["case"]) for row in table]
    assert len(set(found)) == len(found)
    tested = json.loads((finished / "split.json").read_text())["test"]
    assert [case for site, case in found if site == "source"] == tested
    assert [site for site, _ in found if site != "source"] == ["north", "west", "west"]
    summary = json.loads((finished / "evaluation" / "summary.json").read_text())
    assert {name: site["n"] for name, site in summary["sites"].items()} == {"source": 2, "north": 1, "west": 2}
    macro = (summary["sites"]["north"]["dice"]["mean"] + summary["sites"]["west"]["dice"]["mean"]) / 2
    assert summary["held_out_macro"]["dice"] == pytest.approx(macro)
    assert summary["gap"]["dice"] == pytest.approx(summary["sites"]["source"]["dice"]["mean"] - macro)
    assert 0 < summary["location_prior"]["west"] < 1


def test_the_same_command_finds_all_done_and_alters_nothing(finished: Path, tiny: Tiny, pansite: Command) -> None:
    before = weights(finished)
    stamps = {path: path.stat().st_mtime_ns for path in (finished / "evaluation" / "cases").rglob("*.json")}
    code, out, _ = pansite(
        "run", tiny.file, f"run.root={finished.parent.parent}", "trainer.log_every=2", "data.workers=1"
    )
    assert code == 0
    assert "trained already, all 6 steps" in out
    assert "none of them still missing" in out
    assert same(weights(finished), before)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.usefixtures("without_pages")
def test_a_site_added_later_is_all_that_is_computed(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    assert pansite("run", tiny.file, f"run.root={tmp_path}")[0] == 0
    run = only_run(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in (run / "evaluation" / "cases").rglob("*.json")}
    added = f"{{layout: phantom, site: hill, cases: 1, root: {tiny.phantoms}}}"
    code, out, _ = pansite("evaluate", run, f"data.held_out.hill={added}")
    assert code == 0
    assert "6 cases to evaluate, 1 of them still missing" in out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert [row["site"] for row in rows(run)].count("hill") == 1

    # A mistake does not stay with the run, nor does what was asked for once.
    config = (run / "config.yaml").read_text()
    assert "hill" in config
    assert pansite("evaluate", run, "data.held_out.gone={layout: manifest, root: /nowhere/cases.csv}")[0] == 2
    assert pansite("evaluate", run, "checkpoint=last")[1].startswith("last.ckpt: 6 cases")
    assert pansite("evaluate", run)[1].startswith("best.ckpt: 6 cases")
    assert (run / "config.yaml").read_text() == config

    code, _, err = pansite("evaluate", run, "model.optimizer.lr=1")
    assert code == 2
    assert "model.optimizer" in err

    code, out, _ = pansite("run", tiny.file, f"run.root={tmp_path}", "--fresh")
    assert code == 0
    assert "is kept as" in out
    assert (tmp_path / "tiny" / f"{run.name}.replaced-1" / "metrics.csv").is_file()
    assert "hill" not in {row["site"] for row in rows(run)}


def test_only_what_alters_the_weights_makes_another_run(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=1")
    assert pansite(*words)[0] == 0
    run = only_run(tmp_path)
    same = (
        "data.workers=2", "trainer.checkpoint_every=5", "data.held_out.west.cases=1", "evaluation.overlap=0.1",
        "logging.wandb=offline", "trainer.devices=2", f"data.store={tmp_path / 'store'}",
    )  # fmt: skip
    assert "trained already" in pansite(*words, *same)[1]
    assert pansite(*words, "model.optimizer.lr=0.01")[0] == 0
    assert len([path for path in run.parent.iterdir() if path.is_dir()]) == 2


def test_fit_needs_no_held_out_file_and_evaluate_says_which_one_is_missing(
    tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    gone = "{gone: {layout: manifest, root: /nowhere/cases.csv}}"
    assert pansite("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=1", f"data.held_out={gone}")[0] == 0
    code, _, err = pansite("evaluate", only_run(tmp_path))
    assert code == 2
    assert "gone" in err
    assert "/nowhere/cases.csv" in err


def test_weights_of_another_run_are_taken_up_or_refused_in_a_sentence(
    finished: Path, tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=1", f"model.init={finished}")
    still = ("model.optimizer.lr=1e-12", "model.optimizer.weight_decay=0")
    assert pansite(*words, *still)[0] == 0
    start, end = weights(finished, "best"), weights(only_run(tmp_path))
    for name in start:
        if name.startswith("network."):
            assert torch.allclose(start[name], end[name], atol=1e-6), name
    code, _, err = pansite(*words, "model.network.filters=[8, 16, 32]")
    assert code == 2
    assert "model.init" in err
    assert len(err) < 400
    # Without them it is another run; the one that did not fit has left no folder.
    assert pansite(*words[:-1], *still)[0] == 0
    assert len([path for path in (tmp_path / "tiny").iterdir() if path.is_dir()]) == 2


def test_the_module_run_by_python_is_the_same_command_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "config", "check", "phantom_dual_ssl"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "phantom_dual_ssl: fine" in done.stdout


@pytest.mark.skipif(
    "PANSITE_TEST_DATA" not in os.environ, reason="PANSITE_TEST_DATA, the folder of real CTs, is not set"
)
def test_real_cts_of_a_manifest_are_held_out_and_predicted_on_their_own_grids(
    finished: Path, pansite: Command, tmp_path: Path
) -> None:
    """A NIfTI and a DICOM series whose label is stored in another orientation."""
    real = Path(os.environ["PANSITE_TEST_DATA"]) / "totalsegmentator"
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    manifest = tmp_path / "cases.csv"
    manifest.write_text(
        "case,image,label\n"
        f"nifti,{real / 'example_ct.nii.gz'},{real / 'example_seg_fast_force_split.nii.gz'}\n"
        f"dicom,{real / 'example_ct_dicom'},{real / 'example_seg_dicom.nii.gz'}\n"
        f"mr,{real / 'example_mr_sm.nii.gz'},{real / 'example_seg_mr.nii.gz'}\n"
    )
    site = f"data.held_out={{real: {{layout: manifest, root: {manifest}, labels: [7]}}}}"
    code, out, err = pansite("evaluate", run, site, "predictions=true")
    assert code == 0, err
    assert [row["case"] for row in rows(run) if row["site"] == "real"] == ["dicom", "nifti"]
    excluded = json.loads((run / "evaluation" / "excluded.json").read_text())
    assert "not a CT" in excluded["real"]["mr"]
    assert "real/mr is left out: " in out
    original, predicted = (
        nib.load(path) for path in (real / "example_ct.nii.gz", run / "predictions" / "real" / "nifti.nii.gz")
    )
    assert predicted.shape == original.shape
    assert np.allclose(predicted.affine, original.affine, atol=1e-3)


def test_ctrl_c_is_said_and_the_same_command_goes_on(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}")
    original = DualSSLModule.training_step
    steps = 0

    def interrupt(self: DualSSLModule, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)

    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DualSSLModule, "training_step", interrupt)
            code, _, err = pansite(*words)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    assert code == 130
    assert err.strip().endswith("interrupted")
    code, out, _ = pansite(*words)
    assert code == 0
    assert "going on from step 2" in out


@pytest.mark.slow
def test_two_ranks_train_and_measure_each_case_once(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    # Three validation cases on two ranks: one has more to do than the other.
    words = ["run", tiny.file, f"run.root={tmp_path}", "data.source.cases=7", "data.split.folds=3"]
    code, told, err = launched.run([*words, "trainer.devices=2"], tmp_path)
    assert code == 0, err
    run = only_run(tmp_path)
    found = [(row["site"], row["case"]) for row in rows(run)]
    assert len(set(found)) == len(found) == len(json.loads((run / "split.json").read_text())["test"]) + 3
    assert told.count("report:") == 1
    # One process takes it for its own run, with nothing left to do.
    code, out, _ = pansite(*words)
    assert code == 0
    assert "trained already, all 6 steps" in out
    assert "none of them still missing" in out
