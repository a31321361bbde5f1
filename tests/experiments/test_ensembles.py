"""Runs that predict together, how uncertain they are, and thousands of images: `pansite predict` to its end."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datamodules.layouts.site import Case, SiteConfig
from datamodules.native import to_native
from datamodules.preprocessing import preprocess
from datamodules.reading import read_case
from datamodules.window import apply_window
from experiments import ensemble, masks, prediction
from experiments.masks import Target
from lightning_modules.dual_ssl import DualSSLModule, InferenceSettings
from tests.experiments.bodies import body, save_checkpoint, write_body, write_run

Command = Callable[..., tuple[int, str, str]]
LPS = "lps"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs that differ in weights, spacing and patch."""
    folder = tmp_path / "runs" / "tiny"
    write_run(folder / "aaaa", seed=3)
    write_run(folder / "bbbb", seed=4, spacing=(6.0, 5.0, 5.0), edge=24)
    return folder / "aaaa", folder / "bbbb"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_body(tmp_path / "ct.nii.gz", LPS)


def voxels(path: Path) -> NDArray[np.generic]:
    return np.asarray(nib.load(path).dataobj)


def probability(run: Path, image: Path) -> NDArray[np.float32]:
    """On the image's own grid, from the parts that an evaluation is made of."""
    module = ensemble.load_module(run / "checkpoints" / "best.ckpt")
    raw = read_case(Case("ct", "ct", image, None), SiteConfig(layout="prediction"), labelled=False)
    grid = preprocess(raw.image, None, module.preprocessing.spacing)
    volume = apply_window(torch.from_numpy(grid.image), module.preprocessing.window)[None, None]
    found = module.predict_probability(volume, InferenceSettings(overlap=0.1))[0, 0].numpy()
    return to_native(found, ensemble._record(Case("ct", "ct", image, None), raw, grid))


def test_runs_of_any_spacing_meet_on_the_image_s_own_grid_and_say_how_uncertain_they_are(
    runs: tuple[Path, Path], image: Path, tmp_path: Path, pansite: Command
) -> None:
    out = tmp_path / "out"
    code, told, err = pansite("predict", *runs, image, "--output", out, "--uncertainty")
    assert code == 0, err
    assert "the mean of 2 runs" in told
    one, two = (probability(run, image).astype(np.float64) for run in runs)
    mean = (one + two) / 2
    label = voxels(out / "ct.nii.gz")
    decided = abs(mean - 0.5) > 1e-6
    np.testing.assert_array_equal(label[decided] == 1, mean[decided] > 0.5)
    assert 0.05 < label.mean() < 0.95

    def bits(p: NDArray[np.float64]) -> NDArray[np.float64]:
        p = p.clip(1e-12, 1 - 1e-12)
        return -p * np.log2(p) - (1 - p) * np.log2(1 - p)

    files = {name: nib.load(out / f"ct_{name}.nii.gz") for name in ("entropy", "mutual_information")}
    for file in files.values():
        assert file.get_data_dtype() == np.float32
        np.testing.assert_allclose(file.affine, nib.load(image).affine, atol=1e-4)
    np.testing.assert_allclose(files["entropy"].get_fdata(), bits(mean), atol=6e-4)
    expected = bits(mean) - (bits(one) + bits(two)) / 2
    np.testing.assert_allclose(files["mutual_information"].get_fdata(), expected, atol=6e-4)
    assert expected.max() > 0.01, "the runs disagree somewhere"
    assert files["mutual_information"].get_fdata().min() >= 0

    # The other way round it is the same ensemble; one of them alone is another prediction, without disagreement.
    assert (
        "1 of 1 were predicted already" in pansite("predict", *runs[::-1], image, "--output", out, "--uncertainty")[1]
    )
    assert pansite("predict", runs[0], image, "--output", tmp_path / "one", "--uncertainty")[0] == 0
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == ["ct.nii.gz", "ct_entropy.nii.gz"]


def test_a_run_that_is_given_twice_or_was_set_aside_is_refused(
    runs: tuple[Path, Path], image: Path, tmp_path: Path, pansite: Command
) -> None:
    one = runs[0]
    twin = shutil.copytree(one, one.with_name("cccc"))
    code, _, err = pansite("predict", one, twin, image, "--output", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "its weights are those of" in err
    aside = twin.rename(one.with_name("aaaa.replaced-1"))
    assert "was set aside by --fresh; leave it out" in pansite("predict", one, aside, image, "--output", tmp_path)[2]
    assert "give the images behind them" in pansite("predict", *runs, "--output", tmp_path / "out")[2]
    assert not (tmp_path / "out").exists()


def test_what_is_done_is_not_done_again_and_what_is_stale_is(
    runs: tuple[Path, Path], image: Path, tmp_path: Path, pansite: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out, done = runs[0], tmp_path / "out", []
    monkeypatch.setattr(DualSSLModule, "forward", lambda self, image: (image - 50 / 340) * 100)
    other = write_body(tmp_path / "other.nii.gz")
    real = prediction.predict_case
    monkeypatch.setattr(
        prediction, "predict_case", lambda members, case, *rest: (done.append(case.case), real(members, case, *rest))[1]
    )

    def predicted(*words: object) -> list[str]:
        done.clear()
        assert pansite("predict", run, image, other, "--output", out, *words)[0] == 0
        return list(done)

    assert predicted() == ["ct", "other"]
    assert predicted() == []
    (out / "other.nii.gz").unlink()
    assert predicted() == ["other"]
    assert predicted("--uncertainty") == ["ct", "other"]
    assert predicted("--uncertainty") == predicted() == []
    assert predicted("flips=true") == ["ct", "other"]
    assert predicted("flips=true", "smallest_piece=1") == ["ct", "other"]
    nib.save(nib.Nifti1Image(body((44, 40, 40), np.diag([2.5, 2.5, 3, 1])), np.diag([2.5, 2.5, 3, 1])), other)
    assert predicted("flips=true", "smallest_piece=1") == ["other"]
    module = write_run(tmp_path / "runs" / "trained" / "on", seed=9)
    save_checkpoint(module, run / "checkpoints" / "best.ckpt", step=6)
    assert predicted("flips=true", "smallest_piece=1") == ["ct", "other"]


def test_flips_of_networks_that_saw_nothing_mirrored_are_warned_of(
    runs: tuple[Path, Path], image: Path, tmp_path: Path, pansite: Command
) -> None:
    code, _, err = pansite("predict", *runs, image, "--output", tmp_path / "out", "flips=true")
    assert code == 0
    assert err.count("warning: ") == 1
    assert "mirrored images, which no augmentation here trains on" in err
    assert "warning" not in pansite("predict", *runs, image, "--output", tmp_path / "out")[2]


def test_a_mask_that_somebody_corrected_is_not_overwritten(
    runs: tuple[Path, Path], image: Path, tmp_path: Path, pansite: Command
) -> None:
    out = tmp_path / "out"
    assert pansite("predict", runs[0], image, "--output", out)[0] == 0
    corrected = nib.Nifti1Image(np.zeros((44, 40, 40), np.uint8), nib.load(image).affine)
    nib.save(corrected, out / "ct.nii.gz")
    code, told, _ = pansite("predict", runs[0], image, "--output", out)
    assert code == 2
    assert "was not written by this command" in told
    assert not voxels(out / "ct.nii.gz").any()


def test_the_largest_piece_is_all_that_is_kept(
    runs: tuple[Path, Path], image: Path, tmp_path: Path, pansite: Command
) -> None:
    from scipy import ndimage

    found = {}
    for name, words in (("all", ()), ("one", ("smallest_piece=1",))):
        code, told, err = pansite("predict", runs[0], image, "--output", tmp_path / name, *words)
        assert code == 0, err
        found[name] = voxels(tmp_path / name / "ct.nii.gz") == 1
        assert ("in smaller pieces left out" in told) == (name == "one")
    pieces, count = ndimage.label(found["all"], np.ones((3, 3, 3)))
    assert count > 1
    np.testing.assert_array_equal(found["one"], pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)


def test_cases_of_a_csv_are_called_by_their_ids_and_what_provokes_a_fault_stops_no_other(
    runs: tuple[Path, Path], tmp_path: Path, pansite: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ["case,image"]
    for name in ("anna", "bert", "carl"):
        (tmp_path / name).mkdir()
        write_body(tmp_path / name / "ct.nii.gz")
        rows.append(f"{name},{name}/ct.nii.gz")
    (tmp_path / "scans.csv").write_text("\n".join([*rows, "twice,anna/ct.nii.gz", "twice,bert/ct.nii.gz"]))
    real = preprocess

    def failing(image: object, *rest: object) -> object:
        if "bert" in str(seen[-1]):
            raise ZeroDivisionError("odd")
        return real(image, *rest)  # type: ignore[arg-type]

    seen: list[Path] = []
    reading = ensemble.read_case
    monkeypatch.setattr(
        ensemble, "read_case", lambda case, *a, **k: (seen.append(case.image), reading(case, *a, **k))[1]
    )
    monkeypatch.setattr(ensemble, "preprocess", failing)
    out = tmp_path / "out"
    code, told, err = pansite("predict", runs[0], tmp_path / "scans.csv", "--output", out)
    assert code == 2, err
    assert sorted(file.name for file in out.iterdir()) == ["anna.nii.gz", "carl.nii.gz"]
    refused = [line for line in told.splitlines() if line.startswith("refused: ")]
    assert len(refused) == 2
    assert "bert/ct.nii.gz: it could not be predicted (ZeroDivisionError: odd)" in refused[0]
    assert "its id occurs 2 times" in refused[1]
    assert "2 of 4 images refused; the others are done." in told


def test_memory_does_not_grow_with_the_number_of_images(
    runs: tuple[Path, Path], image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DualSSLModule, "forward", lambda self, image: (image - 50 / 340) * 100)
    images = [str(shutil.copy(image, tmp_path / f"ct{number}.nii.gz")) for number in range(8)]
    held: list[int] = []
    real = Target.write

    def weighed(self: Target, *rest: object) -> None:
        real(self, *rest)  # type: ignore[arg-type]
        held.append(tracemalloc.get_traced_memory()[0])

    monkeypatch.setattr(masks.Target, "write", weighed)
    tracemalloc.start()
    try:
        assert prediction.predict([runs[0]], images, tmp_path / "out", uncertainty=True) == 0
    finally:
        tracemalloc.stop()
    assert len(held) == 8
    # Not a byte a voxel of each further image, of 24 that one takes: what is logged meanwhile is held too.
    assert held[-1] - held[1] < 6 * voxels(image).size
