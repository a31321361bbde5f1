"""`pansite export`: MONAI's own runner, without Pansite, gives the masks of `pansite predict`, voxel by voxel."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from experiments.bundle import export as exporting
from experiments.bundle.configuration import SCHEMA
from tests.callbacks.test_checkpoint_io import Payload
from tests.experiments.bodies import GRIDS, write_body, write_run

Command = Callable[..., tuple[int, str, str]]

WITHOUT_PANSITE = """
import sys
from importlib.abc import MetaPathFinder

class Forbidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("datamodules", "lightning_modules", "callbacks", "experiments", "torchio",
                                      "pytorch_lightning"):
            raise ModuleNotFoundError(f"{name} is not for the bundle")

sys.meta_path.insert(0, Forbidden())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "0123"
    write_run(folder)
    (folder / "evaluation").mkdir()
    summary = {"sites": {"here": {"dice": {"mean": 0.75}}, "there": {"dice": {"mean": None}}}}
    (folder / "evaluation" / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CTs on grids of every kind."""
    folder = tmp_path_factory.mktemp("scans")
    for grid in GRIDS:
        write_body(folder / f"{grid}.nii.gz", grid)
    return folder


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from experiments.cli import main

    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    assert main(["export", str(run), "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def in_process(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """MONAI's runner in this process, which spares its imports."""
    from monai.bundle import run as monai_run

    def ours() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "scripts"]

    def runner(**overrides: object) -> None:
        monai_run(config_file=str(bundle / "configs" / "inference.json"), bundle_root=str(bundle), **overrides)

    monkeypatch.syspath_prepend(str(bundle))
    yield runner
    for name in ours():
        del sys.modules[name]


def masks(folder: Path) -> dict[str, NDArray[np.generic]]:
    return {file.name: np.asarray(nib.load(file).dataobj) for file in sorted(folder.glob("*.nii.gz"))}


def test_monai_s_runner_gives_the_same_masks_in_a_process_that_has_no_pansite(
    run: Path, bundle: Path, scans: Path, tmp_path: Path, pansite: Command
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITHOUT_PANSITE)
    words = ["-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    done = subprocess.run(
        [sys.executable, *words, "--dataset_dir", str(scans), "--output_dir", str(tmp_path / "theirs")],
        cwd=bundle,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    code, _, err = pansite("predict", run, *scans.iterdir(), "--output", tmp_path / "ours")
    assert code == 0, err
    ours, theirs = masks(tmp_path / "ours"), masks(tmp_path / "theirs")
    assert list(ours) == list(theirs) == sorted(f"{grid}.nii.gz" for grid in GRIDS)
    for name, mask in ours.items():
        assert theirs[name].dtype == np.uint8
        assert 0.05 < mask.mean() < 0.95, "neither empty nor full"
        np.testing.assert_array_equal(theirs[name], mask)
        there = nib.load(tmp_path / "theirs" / name)
        np.testing.assert_allclose(there.affine, nib.load(scans / name).affine, atol=1e-4)


def test_its_options_are_those_of_predict(
    run: Path, scans: Path, in_process: Callable[..., None], tmp_path: Path, pansite: Command
) -> None:
    one = tmp_path / "one"
    one.mkdir()
    (one / "oblique.nii.gz").symlink_to(scans / "oblique.nii.gz")
    code, _, err = pansite(
        "predict", run, one / "oblique.nii.gz", "--output", tmp_path / "ours", "smallest_piece=1", "flips=true"
    )
    assert code == 0, err
    in_process(dataset_dir=str(one), output_dir=str(tmp_path / "theirs"), flips=True, smallest_piece=1.0)
    (ours,), (theirs,) = masks(tmp_path / "ours").values(), masks(tmp_path / "theirs").values()
    np.testing.assert_array_equal(theirs, ours)


def test_of_several_runs_it_takes_the_mean_that_predict_takes(
    run: Path, scans: Path, tmp_path: Path, pansite: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai.bundle import run as monai_run
    from monai.bundle import verify_net_in_out

    runs = [run, *(tmp_path / "runs" / name for name in ("b", "c"))]
    for folder, seed in zip(runs[1:], (4, 5), strict=True):
        write_run(folder, seed=seed)
    bundle, configs = tmp_path / "several", tmp_path / "several" / "configs"
    code, told, err = pansite("export", *runs, "--output", bundle, "smallest_piece=0.5")
    assert code == 0, err
    assert told.count("its logits are the run's") == 3
    monkeypatch.syspath_prepend(str(bundle))
    try:
        monai_run(
            config_file=str(configs / "inference.json"), bundle_root=str(bundle), dataset_dir=str(scans),
            output_dir=str(tmp_path / "theirs"),
        )  # fmt: skip
        verify_net_in_out(
            net_id="network_defs::2", meta_file=str(configs / "metadata.json"),
            config_file=str(configs / "inference.json"), device="cpu",
        )  # fmt: skip
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            del sys.modules[name]
    scan = sorted(scans.iterdir())
    code, _, err = pansite("predict", *runs[::-1], *scan, "--output", tmp_path / "ours", "smallest_piece=0.5")
    assert code == 0, err
    assert pansite("predict", run, scan[0], "--output", tmp_path / "one", "smallest_piece=0.5")[0] == 0
    ours, theirs = masks(tmp_path / "ours"), masks(tmp_path / "theirs")
    assert list(ours) == list(theirs) == [file.name for file in scan]
    for name, mask in ours.items():
        assert 0.05 < mask.mean() < 0.95, "neither empty nor full"
        np.testing.assert_array_equal(theirs[name], mask)
    assert (masks(tmp_path / "one")[scan[0].name] != ours[scan[0].name]).any(), "one alone says otherwise"
    readme = (bundle / "docs" / "README.md").read_text()
    assert all(f"`{folder.name}`, checkpoint of step 5" in readme for folder in runs)
    assert "The mean of several runs had not been evaluated" in readme
    assert "{" not in readme
    assert json.loads((configs / "metadata.json").read_text())["eval_metrics"] == {}


@pytest.mark.parametrize(
    ("other", "words", "sentence"),
    [
        ({"spacing": (6.0, 5.0, 5.0)}, (), "its spacing is .*export them apart, or let `pansite predict` take them"),
        ({"edge": 24}, (), "its patch size is "),
        ({}, ("twice",), "its weights are those of .*; give each run once"),
    ],
)
def test_runs_that_it_can_t_hold_together_are_refused(
    run: Path, tmp_path: Path, pansite: Command, other: dict[str, Any], words: tuple[str, ...], sentence: str
) -> None:
    write_run(tmp_path / "other", seed=3 if words else 4, **other)
    code, _, err = pansite("export", run, tmp_path / "other", "--output", tmp_path / "new")
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(sentence, err)
    assert not (tmp_path / "new").exists()


def test_a_stranger_s_weights_in_it_execute_nothing(
    bundle: Path, scans: Path, in_process: Callable[..., None], tmp_path: Path
) -> None:
    bad, proof = tmp_path / "model.pt", tmp_path / "executed"
    torch.save({"weight": Payload(proof)}, bad)
    with pytest.raises(RuntimeError) as caught:
        in_process(dataset_dir=str(scans), output_dir=str(tmp_path / "theirs"), checkpoint=str(bad))
    causes = [caught.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert isinstance(causes[-1], pickle.UnpicklingError), causes
    assert not proof.exists()
    assert not (tmp_path / "theirs").exists()


def test_it_holds_what_a_bundle_holds_and_monai_s_check_of_its_metadata_passes_without_a_network(
    bundle: Path, run: Path, tmp_path: Path
) -> None:
    from monai.bundle import verify_metadata, verify_net_in_out

    files = {str(file.relative_to(bundle)) for file in bundle.rglob("*") if file.is_file()}
    assert files >= {
        "LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md", "docs/data_license.txt",
        "models/model.pt", "scripts/__init__.py", "scripts/grids.py", "scripts/inference.py", "scripts/parts.py",
    }  # fmt: skip
    assert "Apache License" in (bundle / "LICENSE").read_text()
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"] == {"mean_dice_here": 0.75}
    told = (bundle / "docs" / "README.md").read_text()
    assert "| here | 0.750 |" in told
    assert "Not a medical device" in told
    assert "{" not in told
    assert metadata["schema"] == SCHEMA

    # What MONAI's schema demands, in our words: the file that it names is not to be downloaded here.
    required = (
        "schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
        "description", "authors", "copyright", "network_data_format",
    )  # fmt: skip
    tensor = {
        "type": "object",
        "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
        "properties": {"num_channels": {"type": "integer"}, "value_range": {"items": {"type": "number"}}},
    }
    each = {"type": "object", "additionalProperties": tensor}
    network = {"properties": {"inputs": each, "outputs": each}, "required": ["inputs", "outputs"]}
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"required": required, "properties": {"network_data_format": network}}))
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(schema))
    schema.write_text(json.dumps({"required": ["what is not there"]}))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(schema))
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        device="cpu",
    )


def test_a_bundle_never_replaces_anything_and_appears_whole_or_not_at_all(
    run: Path, tmp_path: Path, pansite: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = pansite("export", run, "--output", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "is there already; move it away" in err
    code, _, err = pansite("export", run, "--output", tmp_path / "new", "data.patch_size=[8,8,8]")
    assert (code, err.count("\n")) == (2, 1)
    assert "export takes evaluation" in err
    monkeypatch.setattr(exporting, "_data_licence", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exporting.export([run], tmp_path / "new")
    assert not list(tmp_path.iterdir())
