"""The sites of an experiment go over to nnU-Net whole or not at all, and come back voxel by voxel."""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from datamodules.config import StructureConfig
from datamodules.layouts.nnunet import NnUNetSite
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site
from tests.datamodules import miniatures

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """NIfTI files at the source; held out a site of DICOM series and one of floats."""
    scans = miniatures.scans(7, first=3)
    source = miniatures.msd(tmp_path / "a", scans[:4])
    nih = miniatures.nih(tmp_path / "b", scans[4:6])
    floats = miniatures.abdomenct1k(tmp_path / "c", scans[6:])
    file = tmp_path / "exchange.yaml"
    file.write_text(
        "name: exchange\n"
        "extends: phantom_quick.yaml\n"
        "data:\n"
        f"  source: {{name: here, layout: msd, root: {source}}}\n"
        f"  held_out:\n    nih: {{layout: auto, root: {nih}}}\n    floats: {{layout: abdomenct1k, root: {floats}}}\n"
        f"  store: {tmp_path / 'store'}\n"
        "  spacing: [5.0, 5.0, 5.0]\n  patch_size: [16, 16, 16]\n  split: {folds: 4}\n"
    )
    return file


def _prepared(site: NnUNetSite, store: Path) -> Preparation:
    settled = site.settled()[0]
    return prepare_site(settled, (5.0, 5.0, 5.0), StructureConfig(axis="none"), store, progress=False)


def test_what_was_handed_over_comes_back_voxel_by_voxel(experiment: Path, tmp_path: Path, pansite: Command) -> None:
    raw = tmp_path / "nnUNet raw"
    code, out, err = pansite("sites", experiment, "--write", "nnunet", raw)
    assert code == 0, err
    root = raw / "Dataset501_here"
    assert f"{root}: 3 cases to train on, 4 to test on" in out
    assert [path.name for path in raw.iterdir()] == ["Dataset501_here"]
    description = json.loads((root / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "CT"}
    assert description["labels"] == {"background": 0, "pancreas": 1}
    assert (description["numTraining"], description["file_ending"]) == (3, ".nii.gz")
    files = {kind: sorted(path.name for path in (root / kind).iterdir()) for kind in ("imagesTr", "imagesTs")}
    labels = {kind: sorted(path.name for path in (root / kind).iterdir()) for kind in ("labelsTr", "labelsTs")}
    assert [name.replace("_0000", "") for name in files["imagesTr"]] == labels["labelsTr"]
    assert len(labels["labelsTs"]) == 4
    ((fold,),) = [json.loads((root / "splits_final.json").read_text())]
    assert sorted(f"{name}.nii.gz" for name in (*fold["train"], *fold["val"])) == labels["labelsTr"]
    assert (len(fold["train"]), len(fold["val"])) == (2, 1)
    plan = json.loads((root / "pansite.json").read_text())["cases"]
    for part, prefix in (("train", "here_"), ("test", "here_"), ("test", "nih_"), ("test", "floats_")):
        site = NnUNetSite(name="back", root=str(root), part=part, prefix=prefix)  # type: ignore[arg-type]  # literals
        found = _prepared(site, tmp_path / "other")
        assert not found.excluded
        wanted = {
            name.removeprefix(prefix): entry["digest"]
            for name, entry in plan.items()
            if name.startswith(prefix) and entry["part"] == {"train": "Tr", "test": "Ts"}[part]
        }
        assert {case.record.case: case.record.digest for case in found.kept} == wanted
    for label in (root / "labelsTs").iterdir():
        image = nib.load(root / "imagesTs" / label.name.replace(".nii.gz", "_0000.nii.gz"))
        mask = nib.load(label)
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
        assert set(np.unique(np.asarray(mask.dataobj))) == {0, 1}

    # nnU-Net's output folder is flat and of the same names: here it is the reference itself.
    code, _, err = pansite("evaluate", "--predictions", root / "labelsTs", experiment, f"run.root={tmp_path / 'runs'}")
    assert code == 0, err
    (table,) = (tmp_path / "runs").glob("labelsTs/*/evaluation/per_case.csv")
    with table.open(newline="") as file:
        assert [(row["site"], row["dice"]) for row in csv.DictReader(file)] == [
            ("here", "1.0"), ("nih", "1.0"), ("nih", "1.0"), ("floats", "1.0")
        ]  # fmt: skip

    code, out, _ = pansite("sites", experiment, "--write", "nnunet", raw)
    assert (code, f"{root}: complete already, 7 cases" in out) == (0, True)
    code, _, err = pansite("sites", experiment, "--write", "nnunet", raw, "data.split.fold=1")
    assert code == 2
    assert "holds other cases or another split" in err


def test_a_full_disk_leaves_no_data_set_and_the_same_command_goes_on(
    experiment: Path, tmp_path: Path, pansite: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments import hand_over

    raw, written = tmp_path / "raw", []
    (raw / "Dataset501_other").mkdir(parents=True)
    real = hand_over.write_native

    def filling(path: Path, *rest: Any) -> None:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path.name)
        real(path, *rest)

    monkeypatch.setattr(hand_over, "write_native", filling)
    code, _, err = pansite("sites", experiment, "--write", "nnunet", raw)
    assert code == 2
    assert "the disk is full" in err
    assert [path.name for path in raw.iterdir() if path.name[0] != "."] == ["Dataset501_other"]
    first = list(written)
    written[:] = []
    monkeypatch.setattr(hand_over, "write_native", lambda path, *rest: (written.append(path.name), real(path, *rest)))
    assert pansite("sites", experiment, "--write", "nnunet", raw)[0] == 0
    assert not set(first) & set(written)
    assert len(list((raw / "Dataset502_here").glob("labelsT*/*"))) == 7
    assert not list(raw.rglob("*.part"))


def test_a_wrong_form_and_a_missing_experiment_are_one_sentence(
    experiment: Path, tmp_path: Path, pansite: Command
) -> None:
    code, _, err = pansite("sites", experiment, "--write", "monai", tmp_path / "x")
    assert (code, err.count("\n")) == (2, 1)
    assert "'monai' is no form that is known; write --write nnunet DIR" in err
    code, _, err = pansite("sites", "--write", "nnunet", tmp_path / "x")
    assert (code, err.count("\n")) == (2, 1)
    assert "say of which experiment" in err
    assert not (tmp_path / "x").exists()


def test_two_cases_of_one_name_are_refused(experiment: Path, tmp_path: Path, pansite: Command) -> None:
    folder = tmp_path / "b" / "one"
    rows = ["case,image,label"]
    scan = miniatures.scans(1, first=50)[0]
    miniatures.save(folder / "i.nii.gz", scan.hu, scan.affine)
    miniatures.save(folder / "l.nii.gz", scan.label, scan.affine)
    (folder / "a.csv").write_text("\n".join([*rows, "b_c,i.nii.gz,l.nii.gz"]))
    (folder / "b.csv").write_text("\n".join([*rows, "c,i.nii.gz,l.nii.gz"]))
    sites = (
        f"{{a: {{layout: manifest, root: {folder / 'a.csv'}}}, a_b: {{layout: manifest, root: {folder / 'b.csv'}}}}}"
    )
    code, _, err = pansite("sites", experiment, "--write", "nnunet", tmp_path / "x", f"data.held_out={sites}")
    assert code == 2
    assert "site 'a_b', case 'c': site 'a' has a case that would be called 'a_b_c' too" in err
