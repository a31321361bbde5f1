"""A site's cases are listed as they lie on disk, and what is wrong with the list is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.errors import UsageError
from datamodules.layouts import LAYOUTS, Case
from datamodules.layouts.manifest import ManifestSite
from datamodules.layouts.msd import MSDSite


def _manifest(folder: Path, text: str, encoding: str = "utf-8") -> ManifestSite:
    path = folder / "cases.csv"
    path.write_bytes(text.encode(encoding))
    return ManifestSite(name="mine", root=str(path))


def test_a_manifest_names_files_relative_to_itself(tmp_path: Path) -> None:
    site = _manifest(tmp_path, "case,image,label,patient\nb,x/b.nii.gz,/data/b.nii.gz,anna\na,dicom/,\n\n")
    assert LAYOUTS.build(site) == [
        Case("a", "a", tmp_path / "dicom", None),
        Case("b", "anna", tmp_path / "x/b.nii.gz", Path("/data/b.nii.gz")),
    ]


def test_a_manifest_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    site = _manifest(tmp_path, "Case, Image ,LABEL\r\nfäll 1, bild.nii.gz ,\r\n", "utf-8-sig")
    assert LAYOUTS.build(site) == [Case("fäll 1", "fäll 1", tmp_path / "bild.nii.gz", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,imgae,label\na,b,c\n", r"no column 'image' \(is 'imgae' meant\?\)"),
        ("image,label\nb,c\n", "no column 'case'"),
        ("case,image,labels\na,b,c\n", "column 'labels': is 'label' meant"),
        ("", "no column 'case'; its columns are none|no column 'case'"),
        ("case,image,label\n", "no cases in"),
        ("case,image,label\na,,c\n", "line 2, has no 'image'"),
        ("case,image,label\n../a,b,c\n", "'../a' can't be a folder's name"),
        ("case,image,label\na/b,b,c\n", "'a/b' can't be a folder's name"),
        (f"case,image,label\n{'ä' * 150},b,c\n", "longer than 200 bytes"),
    ],
)
def test_a_faulty_manifest_is_one_sentence_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        LAYOUTS.build(_manifest(tmp_path, text))
    assert "'mine'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_a_case_id_that_occurs_twice_nobody_knows_which_is_meant(tmp_path: Path) -> None:
    twice, other = LAYOUTS.build(_manifest(tmp_path, "case,image,label\na,b,c\nb,b,c\na,d,e\n"))
    assert (twice.case, other.case) == ("a", "b")
    assert "its id occurs 2 times in" in str(twice.fault)
    assert other.fault is None


def test_a_manifest_that_is_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="can't be read as a CSV in UTF-8"):
        LAYOUTS.build(ManifestSite(name="mine", root=str(tmp_path / "cases.csv")))


@pytest.mark.parametrize("site", [ManifestSite(name="mine"), MSDSite(name="mine")])
def test_a_site_without_a_root_says_which_key_is_missing(site: ManifestSite | MSDSite) -> None:
    with pytest.raises(UsageError, match=r"'mine'.* needs a 'root'"):
        LAYOUTS.build(site)


def test_a_root_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        LAYOUTS.build(MSDSite(name="msd", root=str(tmp_path / "nowhere")))


def _decathlon(folder: Path) -> Path:
    root = folder / "Task07_Pancreas"
    for part, names in {
        "imagesTr": ["pancreas_001.nii.gz", "._pancreas_001.nii.gz", "pancreas_004.nii.gz", ".DS_Store"],
        "labelsTr": ["pancreas_001.nii.gz", "._pancreas_001.nii.gz", "pancreas_005.nii.gz"],
        "imagesTs": ["pancreas_002.nii.gz"],
    }.items():
        (root / part).mkdir(parents=True)
        for name in names:
            (root / part / name).touch()
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in
                ("pancreas_001.nii.gz", "pancreas_010.nii.gz")]  # fmt: skip
    (root / "dataset.json").write_text(json.dumps({"training": training, "modality": {"0": "CT"}}))
    return root


def test_the_decathlon_lists_whole_cases_and_those_with_a_part_missing(tmp_path: Path) -> None:
    root = _decathlon(tmp_path)
    cases = LAYOUTS.build(MSDSite(name="msd", root=str(root)))
    assert [case.case for case in cases] == ["pancreas_001", "pancreas_004", "pancreas_005", "pancreas_010"]
    there = {case.case: (case.image.exists(), case.label.exists()) for case in cases}
    assert list(there.values()) == [(True, True), (True, False), (False, True), (False, False)]


def test_the_decathlons_tumour_is_part_of_the_organ() -> None:
    assert MSDSite(name="msd").labels == [1, 2]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"training": 3}', '{"training": [{"img": "a"}]}'])
def test_a_folder_that_is_not_the_decathlons_is_said(tmp_path: Path, content: str | None) -> None:
    root = _decathlon(tmp_path)
    (root / "dataset.json").unlink()
    if content is not None:
        (root / "dataset.json").write_text(content)
    with pytest.raises(UsageError, match=r"'msd': .*dataset\.json"):
        LAYOUTS.build(MSDSite(name="msd", root=str(root)))
