"""A case is read as it lies in the patient, or refused in one sentence that names the file and the evidence."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_files import SHAPE, abdomen, affine, save, turned

from datamodules.errors import CaseError, UnreadableError
from datamodules.layouts.site import Case, SiteConfig
from datamodules.reading import RawCase, read_case, read_label
from datamodules.volume_files import read_grid

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


def test_what_the_system_refuses_is_told_from_a_damaged_file(
    case: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gzip, "open", refuse)
    with pytest.raises(UnreadableError, match=r"image\.nii\.gz can't be read \(Permission denied\)"):
        _read(case[0])


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
