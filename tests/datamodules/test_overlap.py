"""The same scan is found again by what it shows, whatever was made of it; two scans never are one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules import descriptions
from datamodules.case_statistics import STATISTICS, phase
from datamodules.config import SourceData, SplitConfig, StructureConfig
from datamodules.descriptor import Descriptor, describe
from datamodules.errors import UsageError
from datamodules.layouts.manifest import ManifestSite
from datamodules.overlap import DESCRIPTOR, Pair, Scan, find_pairs, groups
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site
from datamodules.same_scan import SAME, agreement
from datamodules.seal import Overlap
from datamodules.single_source import SingleSourceDataModule
from datamodules.store import StoredCase
from datamodules.volume_files import read_volume
from tests.datamodules.ct_files import abdomen
from tests.datamodules.patients import EDGES, WAYS, patient, write_patient

NUMBER = 7


def _describe(hu: NDArray[np.generic], edges: tuple[float, float, float]) -> Descriptor:
    return describe(np.ascontiguousarray(hu), np.array(edges))


@pytest.fixture(scope="module")
def originals() -> list[Descriptor]:
    return [_describe(patient(seed), EDGES) for seed in range(NUMBER)]


@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_made_of_a_scan_is_the_same_scan_and_no_other(originals: list[Descriptor], way: str) -> None:
    made = _describe(*WAYS[way](patient(0), EDGES))
    found = [agreement(original, made).score for original in originals]
    assert found[0] > 0.85
    assert max(found[1:]) < SAME - 0.2
    assert agreement(made, originals[0]).score == pytest.approx(found[0], abs=0.05)


def test_the_height_in_common_is_told(originals: list[Descriptor]) -> None:
    half = _describe(patient(0)[..., :36], EDGES)
    assert agreement(originals[0], half).height == pytest.approx(108, abs=6)
    assert agreement(originals[0], originals[0]).height == pytest.approx(216, abs=6)


def test_what_has_too_little_to_show_is_compared_by_its_voxels_alone(originals: list[Descriptor]) -> None:
    thin = _describe(patient(0)[..., 30:40], EDGES)  # 30 mm
    toys = [_describe(abdomen(seed)[0], (5.0, 5.0, 5.0)) for seed in range(2)]  # the same slice over and over
    air = _describe(np.full((40, 40, 40), -1000), EDGES)
    for descriptor in (thin, *toys, air):
        assert not descriptor.comparable
        assert not agreement(descriptor, descriptor).same
    assert originals[0].comparable


def _write(path: Path, name: str, descriptor: Descriptor, voxels: str | None = None) -> Scan:
    with (path / f"{name}.npz").open("wb") as file:
        descriptor.write(file)
    return Scan("site", name, voxels or name, path / f"{name}.npz")


def test_pairs_are_found_among_many(originals: list[Descriptor], tmp_path: Path) -> None:
    scans = [_write(tmp_path, f"p{number}", descriptor) for number, descriptor in enumerate(originals)]
    again = [
        _write(tmp_path, way, _describe(*WAYS[way](patient(place), EDGES)))
        for place, way in enumerate(("all of these", "60 mm, flipped", "2 mm"))
    ]
    toys = [_write(tmp_path, name, _describe(abdomen()[0], (5.0, 5.0, 5.0)), "the same") for name in ("toy", "copy")]
    pairs = find_pairs([*scans, *again, *toys])
    found = [(pair.first.case, pair.second.case) for pair in pairs]
    assert found == [("p0", "all of these"), ("p1", "60 mm, flipped"), ("p2", "2 mm"), ("toy", "copy")]
    assert pairs[-1].evidence == "the same voxels"
    assert pairs[1].evidence.endswith("over 54 mm") or pairs[1].evidence.endswith("over 60 mm")
    assert find_pairs([]) == find_pairs(scans[:1]) == []


def test_what_hangs_together_is_one_group(tmp_path: Path) -> None:
    a, b, c, d, e = (Scan("site", name, name, tmp_path) for name in "abcde")
    links = [Pair(a, c, 1.0, None), Pair(d, c, 1.0, None)]
    assert groups([a, b, c, d, e], links) == [[a, c, d]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ManifestSite:
    """Six scans of which two are there twice: one as its lower half, one as the very same file."""
    folder = tmp_path_factory.mktemp("source")
    rows = [write_patient(folder, f"s{seed}", patient(seed)) for seed in range(4)]
    rows.append(write_patient(folder, "half", patient(0)[..., :40]))
    rows.append(write_patient(folder, "twin", patient(1)))
    (folder / "cases.csv").write_text("case,image,label\n" + "\n".join(rows) + "\n")
    return ManifestSite(name="home", root=str(folder / "cases.csv"), check_ct=False)


def _prepare(site: ManifestSite, store: Path) -> Preparation:
    return prepare_site(site, (6.0, 6.0, 6.0), StructureConfig(), store, progress=False)


def test_a_scan_twice_in_the_source_is_one_patient(source: ManifestSite, tmp_path: Path) -> None:
    data = SourceData(
        source=source, spacing=(6.0, 6.0, 6.0), store=str(tmp_path), split=SplitConfig(folds=3), patch_size=(16, 16, 16)
    )
    for seed in range(6):
        data.split.seed = seed
        module = SingleSourceDataModule(data)
        module.setup()
        side = {case: part for part, cases in module.split.to_dict().items() for case in cases}
        assert side["s0"] == side["half"]
        assert side["s1"] == side["twin"]
        assert len(side) == 6
    assert (found := {pair.second.case: pair.first.case for pair in module.preparation.pairs}) == {
        "s0": "half", "twin": "s1"
    }, found  # fmt: skip


def test_a_store_of_before_is_described_from_what_it_holds(
    source: ManifestSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _prepare(source, tmp_path)
    records = {case.record.case: (case.folder / "record.json").read_bytes() for case in before.kept}
    for case in before.kept:
        (case.folder / DESCRIPTOR).unlink()
        (case.folder / STATISTICS).unlink()
    report = before.folder / "preparation.json"
    report.unlink()
    monkeypatch.setattr("datamodules.prepare_case.read_case", lambda *_: pytest.fail("an original was read again"))
    after = _prepare(source, tmp_path)
    assert after.reused == len(before.kept)
    assert [(p.first.case, p.second.case) for p in after.pairs] == [(p.first.case, p.second.case) for p in before.pairs]
    for case in after.kept:
        assert descriptions.described(case)
        assert (case.folder / "record.json").read_bytes() == records[case.record.case]
    original, kept = before.kept[0], _describe(patient(0)[..., :40], EDGES)
    assert original.record.case == "half"
    assert agreement(Descriptor.read(original.folder / DESCRIPTOR), kept).same


def test_a_damaged_descriptor_is_named_with_the_way_out(originals: list[Descriptor], tmp_path: Path) -> None:
    scans = [_write(tmp_path, f"p{number}", descriptor) for number, descriptor in enumerate(originals[:2])]
    whole = scans[1].path.read_bytes()
    for damaged in (whole[:200], b"", whole[:-300] + bytes(300), b"no archive"):
        scans[1].path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"p1\.npz: can't be read .*; remove it, and `pansite prepare`"):
            find_pairs(scans)


@pytest.mark.parametrize(
    ("pancreas", "vessels", "told"),
    [
        (42, 60, "native"),
        (118, 240, "arterial or pancreatic"),
        (85, 160, "portal venous"),
        (70, 101, "unclear"),
        (40, float("nan"), "unclear"),
    ],
)
def test_the_phase_is_told_by_hu(pancreas: float, vessels: float, told: str) -> None:
    assert phase(pancreas, vessels) == told


def test_statistics_are_those_of_the_volume(source: ManifestSite, tmp_path: Path) -> None:
    case = StoredCase(_prepare(source, tmp_path).kept[1].folder)
    from datamodules.case_statistics import measure

    measured = measure(case)
    inside = case.image()[case.label() > 0]
    assert measured["pancreas"]["percentiles"][2] == pytest.approx(np.median(inside), abs=0.1)
    assert sum(measured["pancreas"]["histogram"]) == len(inside)
    distance = case.distance() / 100
    ring = case.image()[(distance > 0) & (distance <= 5)]
    assert sum(measured["ring"]["histogram"]) == len(ring)
    assert measured["fat"] == pytest.approx(np.mean((ring >= -150) & (ring <= -30)), abs=1e-3)
    assert not measured["cut_off"]


@pytest.mark.skipif(
    "PANSITE_TEST_DATA" not in os.environ, reason="PANSITE_TEST_DATA, the folder of real CTs, is not set"
)
def test_the_two_real_cts_are_two_scans_and_each_is_known_again() -> None:
    real = Path(os.environ["PANSITE_TEST_DATA"]) / "totalsegmentator"
    volumes = [read_volume(real / name) for name in ("example_ct.nii.gz", "example_ct_dicom")]
    scans = [(voxels, tuple(float(edge) for edge in grid.spacing)) for voxels, grid in volumes]
    descriptors = [describe(voxels, np.array(edges)) for voxels, edges in scans]
    assert all(descriptor.comparable for descriptor in descriptors)
    assert agreement(*descriptors).score < 0.3
    for (voxels, edges), own, other in zip(scans, descriptors, reversed(descriptors), strict=True):
        for turned in (voxels[::-1], voxels[:, ::-1, ::-1], voxels.astype(np.float32).clip(-100, 240)):
            made = describe(np.ascontiguousarray(turned), np.array(edges))
            assert agreement(own, made).score > 0.99
            assert agreement(other, made).score < 0.4


def test_many_pairs_of_two_sites_are_told_of_in_one_line() -> None:
    def pairs(second: str, count: int) -> list[Pair]:
        numbers = (f"{number:03d}" for number in range(count))
        return [Pair(Scan("home", n, "", Path()), Scan(second, n, "", Path()), 0.95, 120.0) for n in numbers]

    overlap = Overlap("home", leaks=[*pairs("copy", 281), *pairs("few", 2)], within=pairs("home", 1))
    many, one, two, patient = overlap.sentences()
    assert many.startswith(
        "281 cases of copy are the source's too: copy/000 is home/000 (agreement 0.95 over 120 mm); "
    )
    assert many.endswith("and 278 more")
    assert one == "few/000 is the source's home/000 (agreement 0.95 over 120 mm)"
    assert two.startswith("few/001 is the source's home/001")
    assert patient == "home/000 is home/000 too (agreement 0.95 over 120 mm): one patient"
