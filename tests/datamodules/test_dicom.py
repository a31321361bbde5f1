"""Of a DICOM folder the one CT volume is read as it lies in the patient, or a sentence says why there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_files import Change, dicom_series, straight
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML, UID, DeflatedExplicitVRLittleEndian, EnhancedCTImageStorage

from datamodules.errors import CaseError
from datamodules.volume_files import read_grid, read_volume, remarks_on

REAL = os.environ.get("PANSITE_TEST_DATA")
AFFINE = [[-0.8, 0, 0, 3], [0, -0.9, 0, -7], [0, 0, 2, 10], [0, 0, 0, 1]]
CORONAL = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
SCOUT = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesDescription": "scout"}


def _refused(folder: Path) -> str:
    with pytest.raises(CaseError) as caught:
        read_volume(folder)
    with pytest.raises(CaseError):
        read_grid(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_series_is_rescaled_and_lies_where_its_headers_say(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", straight(6))
    voxels, grid = read_volume(folder)
    assert grid.shape == voxels.shape == (16, 12, 6)
    np.testing.assert_array_equal(voxels[3, 3], 500 + 2 * np.arange(6))
    np.testing.assert_allclose(grid.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(read_grid(folder).affine, AFFINE, atol=1e-6)
    assert read_grid(folder).shape == grid.shape
    assert grid.canonical_spacing() == pytest.approx((0.8, 0.9, 2.0))
    assert remarks_on(folder) == []


def _reversed(dataset: Dataset, number: int) -> None:
    dataset.InstanceNumber = 100 - number


def _without_compression(dataset: Dataset, number: int) -> None:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize("change", [_reversed, _without_compression, None])
def test_neither_the_order_of_files_nor_a_lossless_compression_alters_the_volume(
    tmp_path: Path, change: Change | None
) -> None:
    folder = dicom_series(tmp_path / "s", straight(5), change=change, compressed=change is None)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{'cadbe'[number]}.dcm")
    voxels, grid = read_volume(folder)
    np.testing.assert_array_equal(voxels[3, 3], 500 + 2 * np.arange(5))
    np.testing.assert_allclose(grid.affine, AFFINE, atol=1e-6)


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    slopes = [2, 1.5, 1, 0.37]

    def change(dataset: Dataset, number: int) -> None:
        dataset.RescaleSlope = slopes[number]

    voxels, _ = read_volume(dicom_series(tmp_path / "s", straight(4), change=change))
    expected = [(762 + number) * slope - 1024 for number, slope in enumerate(slopes)]
    np.testing.assert_allclose(voxels[3, 3], expected, atol=1e-3)


def test_an_oblique_series_lies_where_its_headers_say(tmp_path: Path) -> None:
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    positions = [tuple(turn @ position) for position in straight(4)]
    orientation = [*turn[:, 0], *turn[:, 1]]
    _, grid = read_volume(dicom_series(tmp_path / "s", positions, ImageOrientationPatient=orientation))
    flip = np.diag([-1.0, -1.0, 1.0])
    np.testing.assert_allclose(grid.affine[:3, :3], flip @ turn @ np.diag([0.8, 0.9, 2]), atol=1e-6)
    np.testing.assert_allclose(grid.affine[:3, 3], flip @ np.array(positions[0]), atol=1e-6)


# --- which series --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (SCOUT, "scout (a localiser, 3 files"),
        ({**CORONAL, "SeriesDescription": "MPR"}, "MPR (coronal, 3 files"),
        ({"Modality": "MR", "SeriesDescription": "T1"}, "T1 (not a CT: its DICOM headers say 'MR', 3 files"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8,
          "BitsStored": 8, "HighBit": 7, "PixelData": bytes(16 * 12 * 3)}, "(colour pictures, 3 files"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("uid", ["4.5.6", "1.2.3"])
def test_of_several_series_the_one_that_is_an_axial_ct_is_taken_and_that_is_said(
    tmp_path: Path, other: dict[str, object], words: str, uid: str
) -> None:
    """Whether they are told apart by their id or, wrongly, have the same."""
    folder = dicom_series(tmp_path / "s", [(0, 5.0 * k, 3.0 * k) for k in range(3)], uid, **other)
    for path in list(folder.iterdir()):
        path.rename(folder / f"other {path.name}")
    dicom_series(folder, straight(5), SeriesDescription="portal")
    voxels, grid = read_volume(folder)
    np.testing.assert_array_equal(voxels[3, 3], 500 + 2 * np.arange(5))
    np.testing.assert_allclose(grid.affine, AFFINE, atol=1e-6)
    (remark,) = remarks_on(folder)
    assert "taken of its DICOM folder: portal (axial, 5 files from 1.2.3_000.dcm)" in remark
    assert words in remark


def test_several_volumes_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    dicom_series(tmp_path / "s", straight(3))
    said = _refused(dicom_series(tmp_path / "s", straight(4), "4.5.6"))
    assert "2 DICOM series" in said
    assert "series 1.2.3 (axial, 3 files from 1.2.3_000.dcm)" in said
    assert "series 4.5.6 (axial, 4 files from 4.5.6_000.dcm)" in said


def test_a_volume_that_is_not_axial_is_read_and_that_is_said(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", [(0, 2.0 * k, 0) for k in range(4)], **CORONAL)
    voxels, grid = read_volume(folder)
    assert voxels.shape == (16, 12, 4)
    assert grid.canonical_spacing() == pytest.approx((0.8, 2.0, 0.9))
    assert remarks_on(folder) == ["the slices of its DICOM series are coronal, not axial"]


# --- no volume -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ([0, 2, 4, 8, 10], "slices are missing or uneven: 4.00 mm between 1.2.3_002.dcm and 1.2.3_003.dcm, where 2.00"),
        ([0, 2, 2, 4, 6], "slices that lie on each other, 1.2.3_001.dcm and 1.2.3_002.dcm first"),
        ([0, 2, 4.5, 6, 8], "slices are missing or uneven"),
        ([0], "a single slice"),
    ],
)
def test_a_series_with_slices_missing_doubled_or_uneven_is_refused(
    tmp_path: Path, positions: list[float], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert words in _refused(dicom_series(tmp_path / "s", [(0, 0, z) for z in positions]))
    assert capfd.readouterr() == ("", "")


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", [(0, 0.5 * k, 2.0 * k) for k in range(5)])
    assert "shifted against each other, 2.0 mm over all (a tilted gantry)" in _refused(folder)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PixelSpacing": None}, "without PixelSpacing"),
        ({"PixelSpacing": [0.0, 0.0]}, "without PixelSpacing"),
        ({"ImagePositionPatient": None}, "without a position or an orientation"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "without a position or an orientation"),
        ({"Modality": "MR"}, "is not a CT: its DICOM headers say 'MR'"),
        (SCOUT, "is a localiser"),
        ({"PixelSpacing": [900.0, 800.0]}, "spacing of 800 × 900 × 2 mm"),
    ],
)
def test_headers_that_tell_no_ct_volume_are_refused(
    tmp_path: Path, tags: dict[str, object], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert words in _refused(dicom_series(tmp_path / "s", straight(3), **tags))
    assert capfd.readouterr() == ("", "")


def test_slices_of_different_pixel_sizes_are_refused(tmp_path: Path) -> None:
    def change(dataset: Dataset, number: int) -> None:
        dataset.PixelSpacing = [0.9, 0.8 + 0.1 * number]

    assert "different sizes" in _refused(dicom_series(tmp_path / "s", straight(3), change=change))


def test_an_enhanced_multi_frame_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    frames = {"NumberOfFrames": 3, "PixelData": bytes(3 * 12 * 16 * 2), "SOPClassUID": EnhancedCTImageStorage}
    assert "convert it to NIfTI, for instance with dcm2niix" in _refused(
        dicom_series(tmp_path / "s", straight(1), **frames)
    )


def test_a_compression_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    def change(dataset: Dataset, number: int) -> None:
        dataset.file_meta.TransferSyntaxUID = MPEG2MPML  # a film
        dataset.PixelData = encapsulate([bytes(64)])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True

    folder = dicom_series(tmp_path / "s", straight(3), change=change)
    with pytest.raises(CaseError, match="damaged, cut off, or compressed in a way that GDCM does not read"):
        read_volume(folder)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("<html>404</html>")


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [(suffix, damage) for suffix in (".dcm", "") for damage in (_cut, _cut_short, _emptied)] + [(".dcm", _text)],
)
def test_a_damaged_slice_at_the_end_is_not_passed_over(
    tmp_path: Path, suffix: str, damage: Callable[[Path], None]
) -> None:
    folder = dicom_series(tmp_path / "s", straight(4))
    for path in list(folder.iterdir()):
        path.rename(folder / f"{path.stem.replace('.', '')}{suffix}")
    last = max(folder.iterdir())
    damage(last)
    assert f"{last.name} is damaged or cut off" in _refused(folder)


def test_what_else_lies_in_a_folder_is_no_slice(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", straight(3))
    (folder / "._1.dcm").write_bytes(b"\0\5\x16\7")
    (folder / "LICENSE").write_text("words")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (folder / "inner").mkdir()
    report = dcmread(folder / "1.2.3_000.dcm")
    del report.PixelData
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.88.11")
    report.save_as(folder / "report")
    assert read_grid(folder).shape == (16, 12, 3)


def test_a_folder_without_a_series_says_what_it_has(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no DICOM series: it is empty" in _refused(tmp_path / "empty")
    dicom_series(tmp_path / "patient" / "study", straight(3))
    assert "is one of its folders meant (study)?" in _refused(tmp_path / "patient")
    (tmp_path / "nifti").mkdir()
    (tmp_path / "nifti" / "ct.nii.gz").touch()
    assert "but NIfTI files: name one of them (ct.nii.gz)" in _refused(tmp_path / "nifti")
    assert capfd.readouterr() == ("", "")


def test_a_single_file_of_a_series_is_refused(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "s", straight(3))
    assert "is a single DICOM file, and a NIfTI file (.nii, .nii.gz) or a DICOM folder" in _refused(
        folder / "1.2.3_000.dcm"
    )


@pytest.mark.skipif(REAL is None, reason="PANSITE_TEST_DATA is not set: no real CTs here")
def test_a_real_series_with_a_slice_lost_or_damaged_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "series"
    shutil.copytree(Path(REAL or ".") / "totalsegmentator" / "example_ct_dicom", folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    first = min(folder.iterdir(), key=lambda path: float(dcmread(path).ImagePositionPatient[2]))
    content = first.read_bytes()
    first.write_bytes(content[:100_000])
    assert f"{first.name} is damaged or cut off" in _refused(folder)
    first.write_bytes(content)
    sorted(folder.iterdir())[7].unlink()
    assert "slices are missing" in _refused(folder)
    assert capfd.readouterr() == ("", "")
