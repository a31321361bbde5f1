"""A case is read as it lies in the patient, or refused in one sentence that names the file and the evidence."""

from __future__ import annotations

import gzip
import locale
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from ct_files import SHAPE, abdomen, affine, save, turned

from datamodules.ct_evidence import examine, not_a_ct
from datamodules.errors import CaseError
from datamodules.layouts.site import Case, SiteConfig
from datamodules.reading import RawCase, read_case, read_label
from datamodules.volume_files import UnreadableError, read_grid, read_volume

SITE = SiteConfig(layout="any", name="here", labels=[7])
REAL = os.environ.get("PANSITE_TEST_DATA")
needs_real_data = pytest.mark.skipif(REAL is None, reason="PANSITE_TEST_DATA is not set: no real CTs here")
real = Path(REAL or ".") / "totalsegmentator"


def _read(image: Path, label: Path | None = None, site: SiteConfig = SITE) -> RawCase:
    return read_case(Case("a", "a", image, label), site, labelled=label is not None)


def _refused(image: Path, label: Path | None = None, site: SiteConfig = SITE) -> str:
    with pytest.raises(CaseError) as caught:
        _read(image, label, site)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, Path]:
    hu, label = abdomen()
    return save(tmp_path / "image.nii.gz", hu), save(tmp_path / "label.nii.gz", label)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SLP", "AIR"])
def test_a_label_in_another_orientation_is_brought_onto_the_images_grid(
    tmp_path: Path, case: tuple[Path, Path], codes: str
) -> None:
    expected = _read(*case)
    raw = _read(case[0], save(tmp_path / "turned.nii.gz", *turned(abdomen()[1], affine(), codes)))
    assert expected.label is not None
    assert raw.label is not None
    np.testing.assert_array_equal(raw.label.data, expected.label.data)
    np.testing.assert_array_equal(raw.label.affine, raw.image.affine)


def test_an_image_keeps_its_own_voxels_and_affine(tmp_path: Path) -> None:
    hu, matrix = turned(abdomen()[0], affine(), "LPI")
    raw = _read(save(tmp_path / "image.nii.gz", hu, matrix))
    np.testing.assert_array_equal(raw.image.data[0], hu)
    np.testing.assert_allclose(raw.image.affine, matrix, atol=1e-6)
    assert raw.label is None


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int16, np.uint8])
def test_masks_of_any_type_give_the_same_label(tmp_path: Path, case: tuple[Path, Path], kind: type) -> None:
    label = abdomen()[1].astype(kind)
    assert np.array_equal(read_label(save(tmp_path / "m.nii.gz", label), [7], read_grid(case[0])), abdomen()[1] == 7)


def test_named_ids_are_merged_and_others_left_out(case: tuple[Path, Path]) -> None:
    grid = read_grid(case[0])
    np.testing.assert_array_equal(read_label(case[1], [5, 7], grid), abdomen()[1] > 0)


def test_a_trailing_axis_of_one_voxel_is_no_fourth_dimension(tmp_path: Path) -> None:
    hu, label = abdomen()
    raw = _read(save(tmp_path / "i.nii.gz", hu[..., None]), save(tmp_path / "l.nii.gz", label[..., None, None]))
    assert raw.image.spatial_shape == SHAPE


def test_an_organ_that_reaches_the_border_is_mentioned(tmp_path: Path, case: tuple[Path, Path]) -> None:
    label = abdomen()[1]
    label[15:20, 15:20, :8] = 7
    assert _read(*case).warnings == []
    assert "touches the volume's border" in _read(case[0], save(tmp_path / "cut.nii.gz", label)).warnings[0]


# --- bad input ----------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path, case: tuple[Path, Path]) -> None:
    assert f"{tmp_path / 'no.nii.gz'} does not exist" in _refused(tmp_path / "no.nii.gz")
    assert "no.nii.gz does not exist" in _refused(case[0], tmp_path / "no.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "no.nii.gz")
    assert "a link to nowhere" in _refused(tmp_path / "link.nii.gz")


def test_a_case_without_a_label_is_refused_where_one_is_wanted(case: tuple[Path, Path]) -> None:
    with pytest.raises(CaseError, match="has no label"):
        read_case(Case("a", "a", case[0], None), SITE)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _trailer_lost(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-6])


def _checksum_wrong(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(bytes(content))


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("<html>404</html>")


def _header_only(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:200]))


def _promising(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([30000, 30000, 30], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def _bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(2**24)))


@pytest.mark.parametrize(
    "damage", [_truncated, _trailer_lost, _checksum_wrong, _emptied, _text, _header_only, _promising, _bomb]
)
def test_a_damaged_file_never_gives_voxels(
    case: tuple[Path, Path], damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    damage(case[0])
    assert str(case[0]) in _refused(case[0])
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file_without_compression_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "image.nii", abdomen()[0])
    _truncated(path)
    assert "damaged or cut off" in _refused(path)


def test_what_the_system_refuses_is_told_from_a_damaged_file(
    case: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gzip, "open", refuse)
    with pytest.raises(UnreadableError, match=r"image\.nii\.gz can't be read \(Permission denied\)"):
        _read(case[0])


def test_another_format_is_refused(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(abdomen()[0].astype(np.int32), affine()), tmp_path / "a.mgz")
    assert "MGHImage" in _refused(tmp_path / "a.mgz")


@pytest.mark.parametrize(("shape", "words"), [((20, 20, 10, 3), "4-D"), ((20, 20), "2-D")])
def test_an_image_that_is_no_volume_is_refused(tmp_path: Path, shape: tuple[int, ...], words: str) -> None:
    assert words in _refused(save(tmp_path / "i.nii.gz", np.zeros(shape, np.int16)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_counted(tmp_path: Path, value: float) -> None:
    hu = abdomen()[0].astype(np.float32)
    hu[3, 4, 5:8] = value
    assert "3 voxels that are NaN or infinite" in _refused(save(tmp_path / "i.nii.gz", hu))


def test_absurd_values_are_named(tmp_path: Path) -> None:
    hu = abdomen()[0].astype(np.float32)
    hu[0, 0, 0] = 1e6
    assert "to 1e+06, which are no HU" in _refused(save(tmp_path / "i.nii.gz", hu))
    assert "value -1000 everywhere" in _refused(save(tmp_path / "c.nii.gz", np.full(SHAPE, -1000, np.int16)))


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("value", [0.0, 1e-9, 1e5, np.nan])
def test_an_absurd_spacing_is_named(tmp_path: Path, value: float, place: int) -> None:
    image = nib.Nifti1Image(abdomen()[0], affine())
    image.header["sform_code"] = 0
    image.header["pixdim"][1 + place] = value
    # nibabel would mend the header of a new image: the bytes are patched.
    path = tmp_path / "i.nii"
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    content[76 + 4 * (1 + place) : 80 + 4 * (1 + place)] = np.float32(value).tobytes()
    content[252:256] = np.array([1, 0], "<i2").tobytes()
    path.write_bytes(bytes(content))
    assert "gives a spacing of" in _refused(path)


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    matrix = affine()
    matrix[1, 2] = 1.5
    image = nib.Nifti1Image(abdomen()[0], matrix)
    image.set_sform(matrix, 1)
    nib.save(image, tmp_path / "i.nii.gz")
    assert "its axes meet at 73.3°" in _refused(tmp_path / "i.nii.gz")


def _shifted(matrix: np.ndarray) -> None:
    matrix[0, 3] += 2.0


def _stretched(matrix: np.ndarray) -> None:
    matrix[2, 2] *= 1.05


def _rotated(matrix: np.ndarray) -> None:
    matrix[:2, :2] = np.array([[np.cos(0.05), -np.sin(0.05)], [np.sin(0.05), np.cos(0.05)]]) @ matrix[:2, :2]


@pytest.mark.parametrize("change", [_shifted, _stretched, _rotated])
def test_a_label_on_another_grid_is_refused_with_both_grids(
    tmp_path: Path, case: tuple[Path, Path], change: Callable[[np.ndarray], None]
) -> None:
    matrix = affine()
    change(matrix)
    said = _refused(case[0], save(tmp_path / "l.nii.gz", abdomen()[1], matrix))
    assert "lies on another grid than the image: 40 × 36 × 24 voxels of" in said


def test_a_label_of_another_shape_is_refused(tmp_path: Path, case: tuple[Path, Path]) -> None:
    said = _refused(case[0], save(tmp_path / "l.nii.gz", abdomen()[1][:-1]))
    assert "39 × 36 × 24 voxels" in said
    assert "40 × 36 × 24" in said


def test_a_label_that_is_off_by_less_than_a_quarter_voxel_is_taken(tmp_path: Path, case: tuple[Path, Path]) -> None:
    matrix = affine()
    matrix[:3, 3] += 0.7
    raw = _read(case[0], save(tmp_path / "l.nii.gz", abdomen()[1], matrix))
    np.testing.assert_array_equal(raw.label.affine, raw.image.affine)  # type: ignore[union-attr]  # it is there


def test_a_label_without_the_wanted_ids_tells_which_it_has(case: tuple[Path, Path]) -> None:
    site = SiteConfig(layout="any", name="here", labels=[1, 2])
    assert "has none of the wanted ids [1, 2]; it has 0, 5, 7" in _refused(*case, site)


def test_an_empty_label_is_said(tmp_path: Path, case: tuple[Path, Path]) -> None:
    assert "is empty" in _refused(case[0], save(tmp_path / "l.nii.gz", np.zeros(SHAPE, np.uint8)))


@pytest.mark.parametrize(("value", "words"), [(0.37, "values like 0.37"), (np.nan, "not finite")])
def test_a_label_of_no_whole_numbers_is_refused(
    tmp_path: Path, case: tuple[Path, Path], value: float, words: str
) -> None:
    label = abdomen()[1].astype(np.float32)
    label[2, 2, 2] = value
    assert words in _refused(case[0], save(tmp_path / "l.nii.gz", label))


# --- is it a CT? --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [-1024, -1536, -2048, -3024])
def test_a_ct_cropped_and_padded_is_a_ct(padding: int) -> None:
    hu = abdomen()[0]
    hu[hu < -900] = padding
    assert not_a_ct(hu) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hu: hu.clip(-100, 240), "no air near −1000 HU (the lowest value is -100)"),
        (lambda hu: (hu.clip(-160, 240) + 160) / 400 * 255, "no negative value at all"),
        (lambda hu: (hu + 1000) / 4000, "values that are not whole numbers"),
        (lambda hu: np.where(hu > -900, hu + 900, hu), "more than bone can be"),
        (lambda hu: np.abs(hu), "no fat near −100 HU"),
    ],
)
def test_what_is_no_ct_in_hu_is_refused_with_the_evidence_and_a_way_out(
    change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    reason = not_a_ct(change(abdomen()[0].astype(np.float32)))
    assert reason is not None
    assert words in reason
    assert "check_ct: false" in reason


def test_a_lost_rescale_intercept_is_recognised(tmp_path: Path) -> None:
    hu = (abdomen()[0] + 1024).astype(np.int16)
    assert "1024 subtracted: its rescale intercept was lost" in _refused(save(tmp_path / "i.nii.gz", hu))


def test_the_check_can_be_switched_off(tmp_path: Path) -> None:
    path = save(tmp_path / "i.nii.gz", abdomen()[0].clip(-100, 240))
    assert "not a CT" in _refused(path)
    assert _read(path, site=SiteConfig(layout="any", check_ct=False)).image.spatial_shape == SHAPE


# --- DICOM, made ---------------------------------------------------------------------------------------------


def _series(folder: Path, positions: list[tuple[float, float]], uid: str = "1.2.3", modality: str = "CT") -> Path:
    """Slices of 16×12 pixels at (y, z) in mm; slice k is 500 + 2k HU, stored with slope 2 and intercept −1024."""
    folder.mkdir(parents=True, exist_ok=True)
    before = locale.setlocale(locale.LC_CTYPE)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, (y, z) in enumerate(positions):
        image = SimpleITK.GetImageFromArray(np.full((12, 16), 500 + 2 * number, np.int16))
        image.SetSpacing((0.8, 0.9))
        for key, value in {
            "0008|0060": modality, "0008|103e": f"series {uid}", "0020|000d": "9.9", "0020|000e": uid,
            "0008|0018": f"{uid}.{number}", "0020|0032": f"-3\\{y}\\{z}", "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(number), "0028|1052": "-1024", "0028|1053": "2", "0018|0050": "2",
        }.items():  # fmt: skip
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}_{number:03}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_CTYPE, before)  # GDCM's writer leaves the process in "C"
    return folder


def test_a_dicom_series_is_rescaled_and_lies_where_its_headers_say(tmp_path: Path) -> None:
    folder = _series(tmp_path / "s", [(7.0, 10.0 + 2 * k) for k in range(6)])
    voxels, grid = read_volume(folder)
    assert grid.shape == voxels.shape == (16, 12, 6)
    np.testing.assert_array_equal(voxels[3, 3], 500 + 2 * np.arange(6))
    expected = [[-0.8, 0, 0, 3], [0, -0.9, 0, -7], [0, 0, 2, 10], [0, 0, 0, 1]]
    np.testing.assert_allclose(grid.affine, expected, atol=1e-6)
    np.testing.assert_allclose(read_grid(folder).affine, expected, atol=1e-6)
    assert read_grid(folder).shape == grid.shape
    assert grid.canonical_spacing() == pytest.approx((0.8, 0.9, 2.0))


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ([(0, 0), (0, 2), (0, 4), (0, 8), (0, 10)], "slices are missing or uneven: 4.00 mm between"),
        ([(0, 0), (0, 2), (0, 2), (0, 4), (0, 6)], "slices that lie on each other"),
        ([(0.5 * k, 2.0 * k) for k in range(5)], "shifted against each other (a tilted gantry)"),
        ([(0, 0)], "a single slice"),
    ],
)
def test_a_series_that_is_no_straight_volume_is_refused(
    tmp_path: Path, positions: list[tuple[float, float]], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert words in _refused(_series(tmp_path / "s", positions))
    assert capfd.readouterr() == ("", "")


def test_several_series_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    _series(tmp_path / "s", [(0, 2.0 * k) for k in range(3)], "1.2.3")
    said = _refused(_series(tmp_path / "s", [(0, 2.0 * k) for k in range(4)], "4.5.6"))
    assert "2 DICOM series" in said
    assert "series 1.2.3 (3 files from 1.2.3_000.dcm)" in said
    assert "series 4.5.6 (4 files from 4.5.6_000.dcm)" in said


def test_a_folder_without_dicom_and_an_mr_series_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no DICOM series" in _refused(tmp_path / "empty")
    folder = _series(tmp_path / "mr", [(0, 2.0 * k) for k in range(3)], modality="MR")
    assert "is not a CT: its DICOM headers say 'MR'" in _refused(folder)
    assert capfd.readouterr() == ("", "")


# --- real files ------------------------------------------------------------------------------------------


@needs_real_data
@pytest.mark.parametrize(
    ("image", "label", "voxels"),
    [
        ("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz", 695),
        ("example_ct_dicom", "example_seg_dicom.nii.gz", 1327),
    ],
)
def test_real_cts_are_read_with_their_labels(
    image: str, label: str, voxels: int, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = _read(real / image, real / label)
    assert raw.label is not None
    mask = raw.label.data[0].numpy() == 1
    assert mask.sum() == voxels
    hu = raw.image.data[0].numpy()
    assert ((hu > -60) & (hu < 200))[mask].mean() > 0.85
    # In physical space, the voxels are those of the label's own file.
    original = nib.load(real / label)
    expected = nib.affines.apply_affine(original.affine, np.argwhere(np.asarray(original.dataobj) == 7))
    found = nib.affines.apply_affine(raw.label.affine, np.argwhere(mask))
    order = [np.lexsort(points.round(2).T) for points in (found, expected)]
    np.testing.assert_allclose(found[order[0]], expected[order[1]], atol=0.01)
    assert capfd.readouterr() == ("", "")


@needs_real_data
def test_a_real_mr_is_refused_with_the_evidence() -> None:
    said = _refused(real / "example_mr_sm.nii.gz", real / "example_seg_mr.nii.gz")
    for words in ("not a CT", "no air near −1000 HU", "bone", "no fat", "check_ct: false"):
        assert words in said


@needs_real_data
def test_a_real_dicom_series_with_a_slice_lost_or_damaged_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "series"
    shutil.copytree(real / "example_ct_dicom", folder)
    files = sorted(folder.iterdir())
    content = files[7].read_bytes()
    files[7].chmod(0o644)
    folder.chmod(0o755)
    files[7].write_bytes(content[:100_000])
    assert str(folder) in _refused(folder)
    files[7].unlink()
    assert "slices are missing" in _refused(folder)
    assert capfd.readouterr() == ("", "")


@needs_real_data
def test_a_real_ct_shows_every_sign_of_one() -> None:
    evidence = examine(read_volume(real / "example_ct.nii.gz")[0])
    assert evidence.against() == []
    assert evidence.air > 0.2
    assert evidence.fat > 0.1
    assert evidence.bone > 0.01
