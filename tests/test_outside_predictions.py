"""Another tool's predictions are judged as a run's own are: same cases, same grid, same numbers, nothing left out."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lightning_modules.metrics.protocol import how_measured
from tests.conftest import Tiny
from tests.datamodules import miniatures
from tests.datamodules.ct_files import turned
from tests.kills import only_run

PROBABILISTIC = ("ece", "uncertainty")
Command = Callable[..., tuple[int, str, str]]


def _rows(run: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (run / "evaluation" / "per_case.csv").open(newline="") as file:
        return {(row["site"], row["case"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def experiment(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny experiment on sites that take no time to make."""
    home = tmp_path_factory.mktemp("experiment")
    scans = miniatures.scans(6, first=3)
    source = miniatures.msd(home / "source", scans[:3])
    north = miniatures.flare22(home / "north", scans[3:4])
    west = miniatures.word(home / "west", scans[4:])
    file = home / "small.yaml"
    file.write_text(
        f"extends: {tiny.file}\nname: tiny\ndata:\n"
        f"  source: {{name: source, layout: msd, root: {source}}}\n"
        f"  held_out: {{north: {{layout: flare22, root: {north}}}, west: {{layout: word, root: {west}}}}}\n"
        f"  store: {home / 'store'}\n"
    )
    return file


@pytest.fixture(scope="module")
def run(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step that wrote its predictions."""
    from experiments.cli import main

    root = tmp_path_factory.mktemp("run")
    words = [f"run.root={root}", "trainer.max_steps=1", "evaluation.predictions=true"]
    assert main(["run", str(experiment), *words]) == 0
    return only_run(root)


@pytest.fixture
def theirs(run: Path, tmp_path: Path) -> Path:
    """The run's predictions as if another tool had made them."""
    return Path(shutil.copytree(run / "predictions", tmp_path / "nnU-Net 2"))


@pytest.fixture
def judge(experiment: Path, pansite: Command, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    def call(folder: Path, *words: str) -> tuple[int, str, str]:
        return pansite("evaluate", "--predictions", folder, experiment, f"run.root={tmp_path / 'runs'}", *words)

    return call


def _only(tmp_path: Path) -> Path:
    (found,) = (path.parent for path in (tmp_path / "runs").glob("*/*/config.yaml"))
    return found


def _alter(path: Path, change: Callable[[np.ndarray], np.ndarray], target: Path | None = None) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), target or path)


def test_a_runs_own_predictions_get_the_runs_own_numbers(
    run: Path, experiment: Path, theirs: Path, judge: Command, tmp_path: Path, pansite: Command
) -> None:
    code, printed, err = judge(theirs)
    assert code == 0, err
    ours = _only(tmp_path)
    assert ours.parent.name == "nnU-Net_2"
    before, after = (json.loads((path / "evaluation" / "summary.json").read_text()) for path in (run, ours))
    # Masks have no probabilities.
    assert _rows(ours) == {key: row | dict.fromkeys(PROBABILISTIC, "") for key, row in _rows(run).items()}
    for name in PROBABILISTIC:
        assert all(row[name] for row in _rows(run).values())
        assert [site.pop(name)["mean"] for site in after["sites"].values()] == [None] * 3
        told = [site.pop(name) for site in before["sites"].values()] + [before["held_out_macro"].pop(name)]
        assert before["gap"].pop(name) == told[0]["mean"] - told[-1]
    assert [site.pop("uncertainty_and_error")["n"] for site in after["sites"].values()] == [0] * 3
    assert all(site.pop("uncertainty_and_error")["n"] == site["n"] for site in before["sites"].values())
    for key in ("sites", "held_out_macro", "gap", "location_prior", "tolerance_mm", "grid", "empty_masks"):
        assert after[key] == before[key], key
    assert after["predictions_of"] == {"folder": str(theirs), "missing": {}}
    looks = [json.loads(line) for line in (experiment.parent / "store" / "ledger.jsonl").read_text().splitlines()]
    assert [look["event"] for look in looks if look["run"] == str(ours)] == ["begun", "done"]
    names = {path.relative_to(run).as_posix() for path in (run / "evaluation").rglob("*") if path.is_file()}
    assert names == {path.relative_to(ours).as_posix() for path in (ours / "evaluation").rglob("*") if path.is_file()}
    page = (ours / "evaluation" / "report.html").read_text()
    head = how_measured(2.0, after["voxel_edges_mm"], 0.25)
    assert head in printed
    assert head in page
    assert "predictions of another tool" in page
    assert "the model" not in page
    assert pansite("report", ours)[0] == 0
    assert "nnU-Net_2" in pansite("runs", tmp_path / "runs")[1]
    code, _, err = pansite("evaluate", ours)
    assert (code, "another tool's predictions and no weights" in err) == (2, True)
    code, out, err = pansite("compare", run, ours)
    assert code == 0, err
    assert all(name in out for name in ("tiny", "nnU-Net_2", how_measured(2.0, smallest_piece=0.25)))
    # Given again, nothing is computed; what is altered is.
    assert "none of them still missing" in judge(theirs)[1]
    _alter(next((theirs / "west").iterdir()), np.zeros_like)
    assert "4 of them still missing" in judge(theirs)[1]


def test_predictions_are_found_in_every_place_and_orientation_and_measured_on_the_native_grid(
    experiment: Path, theirs: Path, judge: Command, tmp_path: Path
) -> None:
    """Of each case the reference itself, moved by a voxel, and its Dice by hand."""
    labels = {
        "source_{}.nii.gz": ("source", [1, 2]),
        "north/{}.nii": ("north", [4]),
        "west/{}/pancreas.nii.gz": ("west", [8]),
    }
    expected = {}
    for place, (site, ids) in labels.items():
        for prediction in sorted((theirs / site).iterdir()):
            case = prediction.name.removesuffix(".nii.gz")
            prediction.unlink()
            (file,) = (experiment.parent / site).rglob(f"label*/{case}.nii.gz")
            image = nib.load(file)
            organ = np.isin(np.asarray(image.dataobj), ids)
            moved = np.roll(organ, 1, axis=2)
            expected[site, case] = 2 * (organ & moved).sum() / (organ.sum() + moved.sum())
            voxels, affine = turned(moved.astype(np.float32) * (7 if site == "north" else 1), image.affine, "SPL")
            target = theirs / place.format(case)
            target.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, affine), target)
    code, _, err = judge(theirs, "prediction_labels=[1, 7]")
    assert code == 0, err
    found = {key: float(row["dice"]) for key, row in _rows(_only(tmp_path)).items()}
    assert found == pytest.approx(expected)
    assert min(found.values()) > 0.5
    assert max(found.values()) < 1


def test_missing_predictions_are_named_and_count_as_failures(theirs: Path, judge: Command, tmp_path: Path) -> None:
    (one,) = (theirs / "north").iterdir()
    one.rename(theirs / "north" / "somebody_else.nii.gz")
    code, out, err = judge(theirs)
    assert code == 0, err
    case = one.name.removesuffix(".nii.gz")
    assert f"1 case without a prediction, counted as failed: north/{case}" in out
    assert "1 file of no case that is evaluated: north/somebody_else.nii.gz" in out
    ours = _only(tmp_path)
    summary = json.loads((ours / "evaluation" / "summary.json").read_text())
    assert summary["predictions_of"]["missing"] == {"north": [case]}
    assert summary["sites"]["north"]["failures"] == 1
    row = _rows(ours)["north", case]
    assert (row["dice"], row["empty_prediction"]) == ("0.0", "true")


def test_what_can_not_be_judged_is_one_sentence_with_site_and_case(
    theirs: Path, judge: Command, tmp_path: Path
) -> None:
    one = sorted((theirs / "west").iterdir())[0]
    case = one.name.removesuffix(".nii.gz")
    whole = one.read_bytes()

    def refused(*words: str) -> str:
        code, _, err = judge(theirs, *words)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert f"site 'west', case '{case}': " in err
        return err

    _alter(one, lambda ids: ids[:-2])
    assert f"prediction {one} lies on another grid than the image" in refused()
    assert not (tmp_path / "runs").exists()
    one.write_bytes(whole[:100])
    assert "damaged" in refused()
    one.write_bytes(whole)
    _alter(one, lambda ids: np.where(np.indices(ids.shape)[0] % 2, 5, 9).astype(np.uint8))
    assert "has ids other than 1 (5, 9): say which are pancreas, as evaluation.prediction_labels=[5]" in refused()
    assert judge(theirs, "evaluation.prediction_labels=[5, 1]")[0] == 0
    one.write_bytes(whole)
    shutil.copy(one, theirs / f"west_{one.name}")
    assert "there are several predictions of it" in refused()


def test_a_folder_without_predictions_is_said_with_what_was_looked_for(judge: Command, tmp_path: Path) -> None:
    code, _, err = judge(tmp_path / "nowhere")
    assert (code, err) == (2, f"error: --predictions: {tmp_path / 'nowhere'} is no folder.\n")
    (tmp_path / "empty").mkdir()
    code, _, err = judge(tmp_path / "empty")
    assert code == 2
    assert "has none of the 4 cases; looked for " in err
    assert f"{tmp_path / 'empty'}/source_pancreas_" in err


def test_each_site_is_handed_over_as_nnunet_writes_it(
    run: Path, theirs: Path, experiment: Path, tmp_path: Path, pansite: Command
) -> None:
    ids = {"source": (1, 2), "north": (4,), "west": (8,)}
    code, out, err = pansite("evaluate", run, "nnunet=true", "predictions=true")
    assert code == 0, err
    assert "none of them still missing" in out
    gone, striped = (theirs / "west" / f"{case}.nii.gz" for site, case in _rows(run) if site == "west")
    gone.unlink()
    _alter(striped, lambda ids: (np.indices(ids.shape)[0] % 2).astype(np.uint8))  # right, wrong and missing voxels
    words = ["nnunet=true", f"run.root={tmp_path / 'runs'}"]
    assert pansite("evaluate", "--predictions", theirs, experiment, *words)[0] == 0
    for folder in (run, _only(tmp_path)):
        for site, wanted in ids.items():
            summary = json.loads((folder / "evaluation" / "nnunet" / site / "summary.json").read_text())
            assert sorted(summary) == ["foreground_mean", "mean", "metric_per_case"]
            assert summary["mean"] == {"1": summary["foreground_mean"]}
            for case in summary["metric_per_case"]:
                predicted, reference = Path(case["prediction_file"]), Path(case["reference_file"])
                there = np.isin(_canonical(reference), wanted)
                found = np.zeros_like(there) if predicted == gone else _canonical(predicted) == 1
                tp, fp, fn = (int(m.sum()) for m in (found & there, found & ~there, there & ~found))
                assert case["metrics"]["1"] == {
                    "TP": tp, "FP": fp, "FN": fn, "TN": there.size - tp - fp - fn, "n_pred": tp + fp, "n_ref": tp + fn,
                    "Dice": pytest.approx(2 * tp / (2 * tp + fp + fn)), "IoU": pytest.approx(tp / (tp + fp + fn)),
                }  # fmt: skip
            cases = [case["metrics"]["1"] for case in summary["metric_per_case"]]
            assert len(cases) == sum(key == site for key, _ in _rows(folder))
            means = {key: pytest.approx(np.mean([case[key] for case in cases])) for key in cases[0]}
            assert summary["foreground_mean"] == means


def _canonical(path: Path) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
