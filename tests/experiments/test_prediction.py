"""`pansite predict`: masks lie on the images' own grids, one bad image stops nothing, nothing is overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from datamodules.errors import UsageError
from experiments.prediction import predict
from lightning_modules.dual_ssl import DualSSLModule
from tests.experiments.bodies import GRIDS, body, write_run

needs_data = pytest.mark.skipif(
    "PANSITE_TEST_DATA" not in os.environ, reason="PANSITE_TEST_DATA, the folder of real images, is not set"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "0123"
    write_run(folder)
    return folder


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network mark what lies above −50 HU, so that where a mask lies can be told from its image."""

    def forward(self: DualSSLModule, image: torch.Tensor) -> torch.Tensor:
        return (image - 50 / 340) * 100

    monkeypatch.setattr(DualSSLModule, "forward", forward)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.usefixtures("bright")
def test_a_mask_lies_on_its_image_s_own_grid(tmp_path: Path, run: Path, name: str) -> None:
    hu = body((44, 40, 40), GRIDS[name])
    nib.save(nib.Nifti1Image(hu, GRIDS[name]), tmp_path / f"{name}.nii")
    assert predict([run], [str(tmp_path / f"{name}.nii")], tmp_path / "out") == 0
    mask = nib.load(tmp_path / "out" / f"{name}.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    assert mask.shape == hu.shape
    np.testing.assert_allclose(mask.affine, nib.load(tmp_path / f"{name}.nii").affine, atol=1e-4)
    found, tissue = np.asarray(mask.dataobj) > 0, hu > -50
    assert 2 * (found & tissue).sum() / (found.sum() + tissue.sum()) > 0.9


@pytest.mark.usefixtures("bright")
def test_one_bad_image_stops_nothing(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    affine = GRIDS["ras"]
    good = body((40, 40, 40), affine)
    bad = {
        "four": np.zeros((8, 8, 8, 2), np.int16),
        "mr": np.random.default_rng(0).integers(0, 900, (30, 30, 30)).astype(np.int16),
        "nan": np.full((20, 20, 20), np.nan, np.float32),
    }
    for name, voxels in {"good": good, "better": good, **bad}.items():
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / f"{name}.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:900])
    (tmp_path / "empty_folder").mkdir()
    names = [
        "four.nii.gz",
        "good.nii.gz",
        "mr.nii.gz",
        "nan.nii.gz",
        "cut.nii.gz",
        "empty_folder",
        "none.nii",
        "better.nii.gz",
    ]
    out = tmp_path / "out"
    assert predict([run], [str(tmp_path / name) for name in names], out) == 2
    assert sorted(path.name for path in out.iterdir()) == ["better.nii.gz", "good.nii.gz"]
    refused = [line for line in capsys.readouterr().out.splitlines() if line.startswith("refused: ")]
    assert len(refused) == 6
    for name, word in {"four": "4-D", "mr": "air", "nan": "NaN", "cut": "damaged", "none": "not exist"}.items():
        assert any(f"{name}.nii" in line and word in line for line in refused), name
    assert predict([run], [str(tmp_path / "cut.nii.gz")], tmp_path / "nothing") == 2
    assert "1 of 1 images refused; nothing was segmented." in capsys.readouterr().out


@pytest.mark.usefixtures("bright")
def test_a_ct_that_was_clipped_is_taken_when_the_user_says_so(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clipped = body((40, 40, 40), GRIDS["ras"]).clip(-160, 240)
    nib.save(nib.Nifti1Image(clipped, GRIDS["ras"]), tmp_path / "clipped.nii.gz")
    assert predict([run], [str(tmp_path / "clipped.nii.gz")], tmp_path / "out") == 2
    assert "check_ct" in capsys.readouterr().out
    assert predict([run], [str(tmp_path / "clipped.nii.gz")], tmp_path / "out", ["check_ct=false"]) == 0
    assert (tmp_path / "out" / "clipped.nii.gz").is_file()


@pytest.mark.usefixtures("bright")
def test_a_volume_smaller_than_the_patch_is_padded_and_it_is_said(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nib.save(nib.Nifti1Image(body((40, 40, 9), GRIDS["ras"]), GRIDS["ras"]), tmp_path / "flat.nii.gz")
    assert predict([run], [str(tmp_path / "flat.nii.gz")], tmp_path / "out") == 0
    assert "were padded to 32×32×32" in capsys.readouterr().out


def test_masks_never_collide_and_never_replace_an_image(tmp_path: Path, run: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(body((9, 9, 9), np.eye(4)), np.eye(4)), tmp_path / folder / "ct.nii.gz")
    images = [str(tmp_path / folder / "ct.nii.gz") for folder in ("a", "b")]
    before = Path(images[0]).read_bytes()
    with pytest.raises(UsageError, match=r"called ct\.nii\.gz, as that of .*a/ct\.nii\.gz"):
        predict([run], images, tmp_path / "out")
    with pytest.raises(UsageError, match="its mask would replace it"):
        predict([run], images[:1], tmp_path / "a")
    assert Path(images[0]).read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_what_decides_training_can_not_be_overridden(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UsageError, match=r"'data\.patch_size=\[8,8,8\]': prediction takes"):
        predict([run], [str(tmp_path / "x.nii")], tmp_path, ["data.patch_size=[8,8,8]"])
    with pytest.raises(UsageError, match="overlap"):
        predict([run], [str(tmp_path / "x.nii")], tmp_path, ["evaluation.overlapp=0.1"])


def test_best_unless_last_is_asked_for_and_nothing_of_strangers(tmp_path: Path, run: Path) -> None:
    image = str(tmp_path / "x.nii")
    with pytest.raises(UsageError, match=r"no last\.ckpt yet"):
        predict([run], [image], tmp_path, ["evaluation.checkpoint=last"])
    with pytest.raises(UsageError, match="not a run folder"):
        predict([tmp_path], [image], tmp_path)
    foreign = run / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": {"weight": torch.zeros(3)}, "global_step": 1}, foreign)
    try:
        with pytest.raises(UsageError, match="not a checkpoint of a DualSSLModule"):
            predict([run], [image], tmp_path, ["evaluation.checkpoint=last"])
    finally:
        foreign.unlink()


@needs_data
@pytest.mark.usefixtures("bright")
def test_real_ct_and_dicom_series_are_predicted_on_their_own_grid_and_the_mr_is_refused(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(os.environ["PANSITE_TEST_DATA"]) / "totalsegmentator"
    names = ("example_ct.nii.gz", "example_mr_sm.nii.gz", "example_ct_dicom")
    assert predict([run], [str(folder / name) for name in names], tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["example_ct.nii.gz", "example_ct_dicom.nii.gz"]
    refused = [line for line in capsys.readouterr().out.splitlines() if line.startswith("refused: ")]
    assert len(refused) == 1
    assert "example_mr_sm.nii.gz" in refused[0]
    assert "air" in refused[0]
    for name in (names[0], names[2]):
        image, mask = read(folder / name), read(tmp_path / f"{name.removesuffix('.nii.gz')}.nii.gz")
        # The same voxel's centre in the world, whatever the order in which a file stores its voxels.
        moved = SimpleITK.Resample(mask, image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 2)
        found, tissue = (SimpleITK.GetArrayFromImage(each) for each in (moved, image))
        assert image.GetNumberOfPixels() == mask.GetNumberOfPixels()
        assert not (found == 2).any(), "every voxel of the image has its voxel in the mask"
        assert 2 * ((found == 1) & (tissue > -50)).sum() / ((found == 1).sum() + (tissue > -50).sum()) > 0.85


def read(path: Path) -> SimpleITK.Image:
    """By ITK, independently of how the project reads."""
    if path.is_file():
        return SimpleITK.ReadImage(str(path))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    return reader.Execute()
