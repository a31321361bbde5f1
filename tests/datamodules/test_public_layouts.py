"""Every public layout is recognised and read as its archive unpacks: the right scans, the right organ, no strays."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from datamodules.config import StructureConfig
from datamodules.errors import CaseError, UsageError
from datamodules.layouts import LAYOUTS, Case, SiteConfig
from datamodules.layouts.auto import AutoSite
from datamodules.native import native_label
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site
from datamodules.reading import read_case, read_label
from datamodules.volume_files import read_grid
from tests.datamodules import miniatures
from tests.datamodules.ct_files import save, turned
from tests.datamodules.miniatures import MINIATURES, Scan, scans

Command = Callable[..., tuple[int, str, str]]
IDS = {
    "nih": ["PANCREAS_0001", "PANCREAS_0002", "PANCREAS_0003"],
    "msd": ["pancreas_001", "pancreas_002", "pancreas_003"],
    "amos": ["amos_0001", "amos_0002", "amos_0003", "amos_0507"],
    "btcv": ["img0001", "img0002", "img0003"],
    "word": ["word_0002", "word_0003", "word_0004"],
    "flare22": ["FLARE22_Tr_0001", "FLARE22_Tr_0002", "FLARE22_Tr_0003"],
    "abdomenct1k": ["Case_00001", "Case_00002", "Case_00003"],
    "totalsegmentator": ["s0000", "s0001", "s0002"],
    "panorama": ["100000_00001", "100001_00001", "100002_00001"],
    "abdomenatlas": ["BDMAP_00000001", "BDMAP_00000002", "BDMAP_00000003"],
    "pants": ["PanTS_00000001", "PanTS_00000002", "PanTS_00000003"],
    "nnunet": ["p0", "p1", "p2"],
}
GRID = (5.0, 5.0, 5.0)
AXIS = StructureConfig(axis="none")
REAL = os.environ.get("PANSITE_TEST_DATA")


@pytest.fixture(scope="module")
def given() -> list[Scan]:
    return scans(3)


@pytest.fixture(scope="module")
def roots(given: list[Scan], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every layout in a folder of its own; tests that alter one copy it."""
    home = tmp_path_factory.mktemp("layouts")
    return {name: build(home / name, given) for name, build in MINIATURES.items()}


def _copy(roots: dict[str, Path], name: str, folder: Path) -> Path:
    return Path(shutil.copytree(roots[name], folder / roots[name].name))


def _site(name: str, root: Path, **options: Any) -> SiteConfig:
    site: SiteConfig = LAYOUTS.config_class(name)(name="here", root=str(root), **options)
    return site.settled()[0]


def _prepare(site: SiteConfig, store: Path) -> Preparation:
    return prepare_site(site, GRID, AXIS, store, progress=False)


def _ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return np.asarray(turned(array, np.asarray(affine), "RAS")[0])


def test_there_is_a_miniature_of_every_layout_of_files() -> None:
    assert set(MINIATURES) == set(IDS) == set(LAYOUTS.names()) - {"manifest", "phantom", "auto", "chaos"}


@pytest.mark.parametrize("name", MINIATURES)
def test_a_layout_is_recognised_by_its_folder_and_read_whole(
    name: str, roots: dict[str, Path], given: list[Scan]
) -> None:
    site, said = AutoSite(name="here", root=str(roots[name])).settled()
    assert site.layout == name
    assert said[0].startswith(f"it is {site.about.title} (layout {name}): there ")
    assert site == _site(name, roots[name])
    cases: list[Case] = LAYOUTS.build(site)
    assert [case.case for case in cases] == IDS[name]
    usable = [case for case in cases if case.fault is None]
    assert len(usable) == len(given)
    for case, scan in zip(usable, given, strict=True):
        raw = read_case(case, site)
        assert raw.label is not None
        np.testing.assert_array_equal(_ras(raw.image.data[0].numpy(), raw.image.affine), scan.hu)
        found = _ras(raw.label.data[0].numpy(), raw.label.affine)
        np.testing.assert_array_equal(found == 1, (scan.label == 1) | (scan.label == 2))


@pytest.mark.parametrize("name", MINIATURES)
def test_a_missing_image_or_label_is_left_out_by_name(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    root = _copy(roots, name, tmp_path)
    first, second, third = (case for case in LAYOUTS.build(_site(name, root)) if case.fault is None)
    shutil.rmtree(first.image) if first.image.is_dir() else first.image.unlink()
    second.label.unlink()
    found = _prepare(_site(name, root), tmp_path / "store")
    assert [case.record.case for case in found.kept] == [third.case]
    reasons = {case: reason for case, reason in found.excluded.items() if "MR" not in reason}
    assert list(reasons) == [first.case, second.case]
    assert all("does not exist" in reason or "no DICOM slices" in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("msd", ".."), ("amos", ".."), ("btcv", "RawData/Training"), ("btcv", "RawData/.."), ("word", ".."),
        ("flare22", "Training/FLARE22_LabeledCase50"), ("flare22", "Training"), ("nih", "Pancreas-CT"),
    ],
)  # fmt: skip
def test_the_folder_above_or_within_does_as_well(name: str, place: str, roots: dict[str, Path]) -> None:
    root = (roots[name] / place).resolve()
    assert AutoSite(name="here", root=str(root)).settled()[0].layout == name
    assert [case.case for case in LAYOUTS.build(_site(name, root))] == IDS[name]


@pytest.mark.parametrize("name", ["nih", "panorama"])
def test_labels_that_were_unpacked_elsewhere_are_named(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    root = _copy(roots, name, tmp_path)
    (labels,) = (path for path in root.iterdir() if "labels" in path.name)
    shutil.move(labels, tmp_path / "apart" / labels.name)
    cases = LAYOUTS.build(_site(name, root, label_root=str(tmp_path / "apart")))
    assert [case.label.is_file() for case in cases] == [True] * 3


def test_a_folder_of_several_data_sets_or_of_none_is_one_sentence(roots: dict[str, Path], tmp_path: Path) -> None:
    both = tmp_path / "data"
    for name in ("amos", "word"):
        shutil.copytree(roots[name], both / roots[name].name)
    with pytest.raises(UsageError, match=r"may be several layouts: amos, as .*; word, as .*; give the folder of one"):
        AutoSite(name="here", root=str(both)).settled()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "holiday.nii.gz").touch()
    with pytest.raises(UsageError, match=r"no layout that is known; looked for .*PANCREAS_0001.*\(nih\); .*manifest"):
        AutoSite(name="here", root=str(tmp_path / "empty")).settled()


def test_a_csv_file_is_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("case,image\na,a.nii.gz\n")
    site, said = AutoSite(name="here", root=str(tmp_path / "mine.csv")).settled()
    assert (site.layout, site.labels) == ("manifest", [1])
    assert "is a CSV file" in said[0]


def test_labels_that_are_given_stay_with_a_layout_that_is_found(roots: dict[str, Path]) -> None:
    assert AutoSite(name="here", root=str(roots["word"]), labels=[3]).settled()[0].labels == [3]


@pytest.mark.parametrize("layout", ["chaos", "auto"])
def test_chaos_is_refused_with_the_reason(layout: str, tmp_path: Path) -> None:
    for kind in ("CT", "MR"):
        (tmp_path / "Train_Sets" / kind / "1").mkdir(parents=True)
    site = LAYOUTS.config_class(layout)(name="here", root=str(tmp_path))
    with pytest.raises(UsageError, match=r"'here': CHAOS labels liver, kidneys and spleen and no pancreas"):
        LAYOUTS.build(site)


def test_amos_mr_are_left_out_by_name(roots: dict[str, Path], tmp_path: Path) -> None:
    found = _prepare(_site("amos", roots["amos"]), tmp_path)
    assert found.excluded == {"amos_0507": "an MR: AMOS' cases from number 500 on are, and CTs are wanted"}
    assert "3 cases, where AMOS22 was published with 300" in found.notes


def test_withdrawn_and_ambiguous_series_of_nih_are_left_out_by_name(
    given: list[Scan], roots: dict[str, Path], tmp_path: Path
) -> None:
    root = miniatures.nih(_copy(roots, "nih", tmp_path), given[:1], first=25)
    patient = root / "Pancreas-CT" / "PANCREAS_0002"
    (series,) = patient.glob("*/*")
    shutil.copytree(series, series.with_name("Pancreas-scout"))
    shutil.rmtree(root / "Pancreas-CT" / "PANCREAS_0003" / "11-24-2015-PANCREAS-9")
    faults = {case.case: case.fault for case in LAYOUTS.build(_site("nih", root))}
    assert faults["PANCREAS_0001"] is None
    assert "2 folders with DICOM slices: " in str(faults["PANCREAS_0002"])
    assert "no DICOM slices" in str(faults["PANCREAS_0003"])
    assert faults["PANCREAS_0025"] == "it was withdrawn: it is the scan of PANCREAS_0002"


def test_a_case_whose_file_is_there_twice_is_left_out(roots: dict[str, Path], tmp_path: Path) -> None:
    root = _copy(roots, "word", tmp_path)
    image = root / "imagesTr" / "word_0003.nii.gz"
    image.with_suffix("").write_bytes(gzip.decompress(image.read_bytes()))
    faults = {case.case: case.fault for case in LAYOUTS.build(_site("word", root))}
    assert "several files of it" in str(faults.pop("word_0003"))
    assert set(faults.values()) == {None}


def test_files_of_odd_names_are_cases_too(roots: dict[str, Path], tmp_path: Path) -> None:
    root = _copy(roots, "btcv", tmp_path) / "RawData" / "Training"
    shutil.copy(root / "img" / "img0001.nii.gz", root / "img" / "img 1 (Kopie) ä.nii.gz")
    shutil.copy(root / "label" / "label0001.nii.gz", root / "label" / "img 1 (Kopie) ä.nii.gz")
    (root / "img" / "README.txt").write_text("no image")
    found = _prepare(_site("btcv", root), tmp_path / "store")
    assert [case.record.case for case in found.kept] == ["img 1 (Kopie) ä", *IDS["btcv"]]


def _described(root: Path, **values: Any) -> Path:
    file = root / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return root


@pytest.mark.parametrize(
    ("labels", "ids"),
    [
        ({"background": 0, "cancer": 1, "pancreas": 2}, [1, 2]),
        ({"background": 0, "liver": 1, "tumour": 2, "pancreas": 3}, [3]),
        ({"background": 0, "pancreas": [1, 2], "pancreatic cyst": 2, "ignore": 3}, [1, 2]),
        ({"0": "background", "1": "liver", "2": "Pancreas"}, [2]),
    ],
)
def test_nnunets_labels_are_found_by_their_names(
    labels: dict[str, Any], ids: list[int], roots: dict[str, Path], tmp_path: Path
) -> None:
    root = _described(_copy(roots, "nnunet", tmp_path), labels=labels)
    assert _site("nnunet", root).labels == ids


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"channel_names": {"0": "CT", "1": "PET"}}, r"2 channels \(CT, PET: "),
        ({"channel_names": {"0": "T2 MRI"}}, "images are T2 MRI"),
        ({"file_ending": ".png"}, "files end in '.png'"),
        ({"labels": {"background": 0, "liver": 1}}, "names the labels background, liver and no pancreas among them"),
        ({"labels": {"pancreas": "x"}}, "no 'labels' with a whole number"),
        ({"channel_names": 3}, "can't be read as nnU-Net's dataset.json"),
    ],
)
def test_what_is_no_single_ct_with_a_pancreas_is_refused(
    values: dict[str, Any], words: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    root = _described(_copy(roots, "nnunet", tmp_path), **values)
    with pytest.raises(UsageError, match=words):
        _site("nnunet", root)


def test_masks_in_several_files_are_united_and_an_empty_one_is_no_fault(roots: dict[str, Path], tmp_path: Path) -> None:
    root = _copy(roots, "pants", tmp_path)
    lesion = root / "LabelTr" / "PanTS_00000001" / "segmentations" / "pancreatic_lesion.nii.gz"
    before = _prepare(_site("pants", root), tmp_path / "store").kept[0].record
    image = nib.load(lesion)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), lesion)
    after = _prepare(_site("pants", root), tmp_path / "store").kept[0].record
    assert before.more_label_paths == after.more_label_paths == [str(lesion)]
    assert before.digest != after.digest


def test_sites_tells_what_a_folder_is_and_what_is_odd_of_it(
    roots: dict[str, Path], tmp_path: Path, pansite: Command
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"name: a\ndata: {{source: {{name: here, layout: auto, root: {roots['amos']}}}}}\n")
    code, out, _ = pansite("sites", file)
    assert code == 0
    (row,) = [line for line in out.splitlines() if "source" in line]
    assert [cell.strip() for cell in row.split("│")[3:6]] == ["amos", str(roots["amos"]), "3"]
    assert "here: it is AMOS22 (layout amos): there is " in out
    assert "here: 3 cases, where AMOS22 was published with 300" in out
    assert "here: 1 left out: an MR: AMOS' cases" in out
    assert pansite("config", "check", file)[0] == 0


def test_sites_lists_every_layout_with_its_count_licence_and_citation(pansite: Command) -> None:
    code, out, _ = pansite("sites")
    assert code == 0
    for words in (
        "PANCREAS_0001",
        "2,238",
        "CC BY-NC-SA",
        "1, 4, 5",
        "10.1038/s41467-022-30695-9",
        "MSD Pancreas, NIH",
    ):
        assert words in out


@pytest.mark.skipif(REAL is None, reason="PANSITE_TEST_DATA is not set: no real CTs here")
def test_real_files_are_read_through_the_layouts_and_a_real_mr_is_refused(tmp_path: Path) -> None:
    real = Path(REAL or ".") / "totalsegmentator"
    case = tmp_path / "ts" / "s0001"
    _link(real / "example_ct.nii.gz", case / "ct.nii.gz")
    label = nib.load(real / "example_seg_fast_force_split.nii.gz")
    save(case / "segmentations" / "pancreas.nii.gz", (np.asarray(label.dataobj) == 7).astype(np.float32), label.affine)
    _link(real / "example_mr_sm.nii.gz", tmp_path / "ts" / "s0002" / "ct.nii.gz")
    _link(real / "example_seg_mr.nii.gz", tmp_path / "ts" / "s0002" / "segmentations" / "pancreas.nii.gz")
    found = prepare_site(
        AutoSite(name="ts", root=str(tmp_path / "ts")), (3.0, 3.0, 3.0), AXIS, tmp_path / "store", progress=False
    )
    assert [case.record.case for case in found.kept] == ["s0001"]
    assert native_label(found.kept[0].record).sum() == 695
    assert "not a CT" in found.excluded["s0002"]

    series = tmp_path / "nih" / "Pancreas-CT" / "PANCREAS_0001" / "study" / "series"
    for number, file in enumerate(sorted((real / "example_ct_dicom").iterdir())):
        _link(file, series / f"1-{number:03}.dcm")
    label = nib.load(real / "example_seg_dicom.nii.gz")
    # In the order of the slices' voxels, mirrored from front to back, under a header that lies.
    voxels = turned((np.asarray(label.dataobj) == 7).astype(np.uint8), label.affine, "LPS")[0][:, ::-1]
    save(tmp_path / "nih" / "labels" / "label0001.nii.gz", voxels, np.eye(4))
    site = AutoSite(name="nih", root=str(tmp_path / "nih")).settled()[0]
    with pytest.raises(CaseError, match=r"how label .* is doubtful \(evidence by flip: j "):
        read_case(LAYOUTS.build(site)[0], site)
    site.label_flip_of = {"PANCREAS_0001": "j"}
    raw = read_case(LAYOUTS.build(site)[0], site)
    assert raw.label is not None
    expected = read_label(real / "example_seg_dicom.nii.gz", [7], read_grid(real / "example_ct_dicom"))
    np.testing.assert_array_equal(raw.label.data[0], expected)


def _link(target: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
