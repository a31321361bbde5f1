"""A site comes into the store case by case, with all that training needs."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datamodules.config import StructureConfig
from datamodules.layouts import Case
from datamodules.layouts.manifest import ManifestSite
from datamodules.native import native_label, to_native
from datamodules.prepare import prepare_cases
from tests.datamodules.ct_files import abdomen, affine, save, turned, write_site
from tests.datamodules.stored_sites import GRID, prepared


def test_a_site_is_prepared_with_all_that_training_needs(tmp_path: Path) -> None:
    found = prepared(write_site(tmp_path / "site", 3), tmp_path / "store")
    assert [case.record.case for case in found.kept] == ["c0", "c1", "c2"]
    assert [case.record.patient for case in found.kept] == ["p0", "p0", "p1"]
    assert (found.excluded, found.reused, found.spacing) == ({}, 0, GRID)
    for case in found.kept:
        shape = case.record.shape
        assert case.image().shape == case.label().shape == case.distance().shape == case.axis().shape == shape
        assert case.image().dtype == np.int16
        assert set(np.unique(case.label())) == {0, 1}
        np.testing.assert_array_equal(case.distance() < 0, case.label() == 1)
        np.testing.assert_array_equal(case.axis() < 255, case.label() == 1)
        assert case.label()[tuple(case.foreground()[:, :3].T)].all()
        assert case.record.labels == [7]
        assert case.record.pancreas_volume_ml == pytest.approx(case.label().sum() * 0.08)
        original = native_label(case.record)
        assert case.record.pancreas_volume_ml == pytest.approx(original.sum() * 0.125, rel=0.25)
        back = to_native(case.label().astype(np.float32), case.record) > 0.5
        assert 2 * (back & (original == 1)).sum() / (back.sum() + original.sum()) > 0.9
    assert len({case.record.digest for case in found.kept}) == 3


def test_the_spacing_of_a_source_is_the_median_of_its_canonical_spacings(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 3)
    for number, edges in enumerate([(1.0, 2.0, 6.0), (3.0, 4.0, 5.0), (2.0, 9.0, 5.12345)]):
        hu, label = abdomen(number)
        codes = ["RAS", "SPL", "LSA"][number]
        for name, array in (("", hu), ("_label", label)):
            save(tmp_path / "site" / f"c{number}{name}.nii.gz", *turned(array, affine(edges), codes))
    found = prepared(site, tmp_path / "store", None)
    assert found.spacing == (2.0, 4.0, 5.123)


def test_settings_have_folders_of_their_own(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 1)
    folders = {
        prepared(other, tmp_path / "store", **options).folder
        for other, options in [
            (site, {}),
            (site, {"spacing": (3.0, 3.0, 3.0)}),
            (site, {"structure": StructureConfig(axis="none")}),
            (site, {"labelled": False}),
            (replace(site, labels=[5]), {}),
            (replace(site, name="there"), {}),
        ]
    }
    assert len(folders) == 6


def test_without_labels_a_case_is_an_image(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", 1)
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    (tmp_path / "site" / "c0_label.nii.gz").unlink()
    case = prepared(site, tmp_path / "store", labelled=False).kept[0]
    assert not case.labelled
    assert case.record.label_path is None
    assert case.record.pancreas_volume_ml == 0


def test_given_cases_are_prepared_without_a_layout(tmp_path: Path) -> None:
    path = save(tmp_path / "någon bild.nii.gz", abdomen()[0])
    site = ManifestSite(name="predict")
    found = prepare_cases(
        site, [Case("någon bild", "x", path, None)], GRID, StructureConfig(), tmp_path / "store", labelled=False,
        progress=False,
    )  # fmt: skip
    assert found.kept[0].folder.name == "någon bild"


# --- real files ----------------------------------------------------------------------------------------------

REAL = os.environ.get("PANSITE_TEST_DATA")


@pytest.mark.skipif(REAL is None, reason="PANSITE_TEST_DATA is not set: no real CTs here")
def test_a_manifest_of_real_files_keeps_the_cts_and_refuses_the_mr(tmp_path: Path) -> None:
    folder = Path(REAL or ".") / "totalsegmentator"
    rows = [
        f"ct,{folder}/example_ct.nii.gz,{folder}/example_seg_fast_force_split.nii.gz",
        f"dicom,{folder}/example_ct_dicom,{folder}/example_seg_dicom.nii.gz",
        f"mr,{folder}/example_mr_sm.nii.gz,{folder}/example_seg_mr.nii.gz",
    ]
    (tmp_path / "cases.csv").write_text("\n".join(["case,image,label", *rows]))
    site = ManifestSite(name="real", root=str(tmp_path / "cases.csv"), labels=[7])
    found = prepared(site, tmp_path / "store", (3.0, 3.0, 3.0))
    assert [case.record.case for case in found.kept] == ["ct", "dicom"]
    assert "no air near −1000 HU" in found.excluded["mr"]
    assert found.kept[0].record.pancreas_volume_ml == pytest.approx(695 * 0.027, rel=0.01)
    dicom = found.kept[1].record
    assert dicom.native_shape == (512, 512, 20)
    assert dicom.warnings == ["the label touches the volume's border: the organ may be cut off"]
    # The stored label lies, in the world, where the label's own file has it.
    original = nib.load(folder / "example_seg_dicom.nii.gz")
    expected = nib.affines.apply_affine(original.affine, np.argwhere(np.asarray(original.dataobj) == 7)).mean(0)
    stored = nib.affines.apply_affine(np.array(dicom.affine), np.argwhere(found.kept[1].label())).mean(0)
    assert np.linalg.norm(stored - expected) < 1.5
