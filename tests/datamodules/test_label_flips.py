"""A label whose header lies comes to lie where the HU say, or its case is left out until a person decides."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from datamodules import prepare_case
from datamodules.config import StructureConfig
from datamodules.errors import CaseError, UsageError
from datamodules.label_flips import FLIPS, flipped, judge
from datamodules.layouts import LAYOUTS
from datamodules.layouts.manifest import ManifestSite
from datamodules.layouts.nih import NIHSite
from datamodules.layouts.site import Flip
from datamodules.native import native_label
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site
from datamodules.reading import read_case, read_label
from datamodules.store_folders import REPORT
from datamodules.volume_files import read_grid, read_volume
from tests.datamodules import miniatures
from tests.datamodules.ct_files import abdomen, affine, save

REAL = os.environ.get("PANSITE_TEST_DATA")
needs_real_data = pytest.mark.skipif(REAL is None, reason="PANSITE_TEST_DATA is not set: no real CTs here")


def _prepare(site: NIHSite | ManifestSite, store: Path) -> Preparation:
    return prepare_site(site, (5.0, 5.0, 5.0), StructureConfig(axis="none"), store, progress=False)


@pytest.mark.parametrize("flip", FLIPS)
def test_nih_labels_are_placed_whatever_their_headers_say(flip: Flip, tmp_path: Path) -> None:
    (scan,) = miniatures.scans(1)
    site = NIHSite(name="nih", root=str(miniatures.nih(tmp_path, [scan], flip)))
    raw = read_case(LAYOUTS.build(site)[0], site)
    assert raw.label is not None
    np.testing.assert_array_equal(raw.label.data[0].numpy(), scan.turned("LPS").label % 9 > 0)
    assert raw.label_flip == flip
    assert raw.label_evidence is not None
    assert raw.label_evidence["margin"] > 0.5
    # The miniature's headers say that the first axis runs to the right and the second to the front.
    assert raw.label_evidence["header_agrees"] is False


def test_choice_and_margin_go_into_the_report_and_the_evaluation_reads_the_label_so(tmp_path: Path) -> None:
    scans = miniatures.scans(3)
    miniatures.nih(tmp_path / "site", scans[:2], "j")
    site = NIHSite(name="nih", root=str(miniatures.nih(tmp_path / "site", scans[2:], "none", first=3)))
    found = _prepare(site, tmp_path / "store")
    report = json.loads((found.folder / REPORT).read_text())
    kept = {case: entry["label_evidence"] for case, entry in report["kept"].items()}
    assert [entry["flip"] for entry in kept.values()] == ["j", "j", "none"]
    assert all(entry["margin"] > 0.5 and len(entry["scores"]) == 8 for entry in kept.values())
    (note,) = (note for note in found.notes if "flipped" in note)
    assert "j (2 cases), none (1 case)" in note
    assert report["notes"] == list(found.notes)
    for case, scan in zip(found.kept, scans, strict=True):
        np.testing.assert_array_equal(native_label(case.record), scan.turned("LPS").label % 9 > 0)


def _doubtful(folder: Path) -> ManifestSite:
    """Three cases; of the second the mask is the same however it is mirrored along the first axis."""
    rows = ["case,image,label"]
    for seed in range(3):
        hu, label = abdomen(seed)
        organ = label == 7
        if seed == 1:
            hu[organ] = 45
            organ = organ | organ[::-1]
            hu[organ] = 110
        else:
            head = np.zeros_like(organ)
            head[9:13, 20:26, 6:10] = True
            hu[head], organ = 110, organ | head
        save(folder / f"{seed}.nii.gz", hu)
        save(folder / f"{seed}_label.nii.gz", organ.astype(np.uint8)[:, ::-1])
        rows.append(f"c{seed},{seed}.nii.gz,{seed}_label.nii.gz")
    (folder / "cases.csv").write_text("\n".join(rows))
    return ManifestSite(name="own", root=str(folder / "cases.csv"), label_flip="evidence")


def test_a_doubtful_case_is_left_out_until_its_flip_is_named_and_the_others_are_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = _doubtful(tmp_path)
    found = _prepare(site, tmp_path / "store")
    assert [case.record.label_flip for case in found.kept] == ["j", "j"]
    assert list(found.excluded) == ["c1"]
    assert "is doubtful (evidence by flip: " in found.excluded["c1"]
    assert "'label_flip_of'" in found.excluded["c1"]
    read: list[str] = []
    real = prepare_case.read_case

    def recorded(case: object, *rest: object) -> object:
        read.append(case.case)  # type: ignore[attr-defined]
        return real(case, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare_case, "read_case", recorded)
    site.label_flip_of = {"c1": "j"}
    decided = _prepare(site, tmp_path / "store")
    assert read == ["c1"]
    assert [case.record.label_flip for case in decided.kept] == ["j", "j", "j"]
    np.testing.assert_array_equal(
        native_label(decided.kept[1].record),
        read_label(tmp_path / "1_label.nii.gz", [1], read_grid(tmp_path / "1.nii.gz"))[:, ::-1],
    )


def test_a_flip_of_a_case_that_is_not_there_is_said(tmp_path: Path) -> None:
    site = _doubtful(tmp_path)
    site.label_flip_of = {"c9": "j"}
    with pytest.raises(UsageError, match=r"'own': label_flip_of names 'c9', and there is no such case"):
        LAYOUTS.build(site)


def test_a_label_of_another_shape_can_not_be_flipped_into_place(tmp_path: Path) -> None:
    hu, label = abdomen()
    image, other = save(tmp_path / "i.nii.gz", hu), save(tmp_path / "l.nii.gz", label[:-1], affine())
    with pytest.raises(CaseError, match=r"39 × 36 × 24 voxels and its image 40 × 36 × 24, so that no flip"):
        read_label(other, [7], read_grid(image), "ij")


@needs_real_data
@pytest.mark.parametrize(
    ("image", "label", "clear"),
    [
        ("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz", True),
        # Forty millimetres of a patient: mirrored from head to feet, too little changes to be sure.
        ("example_ct_dicom", "example_seg_dicom.nii.gz", False),
    ],
)
def test_a_real_label_is_found_whatever_its_flip_or_said_to_be_doubtful(image: str, label: str, clear: bool) -> None:
    folder = Path(REAL or ".") / "totalsegmentator"
    hu, grid = read_volume(folder / image)
    mask = read_label(folder / label, [7], grid) > 0
    for flip in FLIPS:
        choice = judge(flipped(mask, flip), hu, grid.spacing)
        assert choice.flip == flip
        assert choice.doubtful is not clear
