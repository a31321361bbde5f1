"""The phantom sites: real geometry, the same on every machine, and factors that move their own quantity alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from datamodules.acquisition import QUIET, THICK, THIN
from datamodules.anatomy.tissue import PHASES
from datamodules.descriptions import describe_original
from datamodules.descriptor import Descriptor
from datamodules.errors import UsageError
from datamodules.layouts import LAYOUTS
from datamodules.layouts.phantom import PhantomSite
from datamodules.overlap import DESCRIPTOR, Scan, find_pairs
from datamodules.phantom import LESION, PANCREAS, PhantomCase, generate
from datamodules.phantom_hashes import hash_sites, joined
from datamodules.phantom_settings import FACTORS, SiteSettings, builtin_sites, committed_hashes
from datamodules.reading import read_case

SITES = builtin_sites()
TESTS = sorted(name for name, site in SITES.items() if site.role == "test")


def canonical(case: PhantomCase) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Image, label (RAS) and spacing."""
    image, label = (
        nib.as_closest_canonical(nib.Nifti1Image(voxels, case.affine)) for voxels in (case.image, case.label)
    )
    spacing = tuple(float(step) for step in image.header.get_zooms())
    return np.asarray(image.dataobj).astype(float), np.asarray(label.dataobj), spacing


def core(case: PhantomCase, depth: float = 3.0) -> np.ndarray:
    """HU of healthy pancreas at least ``depth`` mm below the surface."""
    image, label, spacing = canonical(case)
    inner = ndimage.distance_transform_edt(label > 0, sampling=spacing) > depth
    values: np.ndarray = image[inner & (label == PANCREAS)]
    return values


@cache
def at(index: int = 0, **factors: float) -> PhantomCase:
    """A case of the source with every factor at 0 but those given."""
    return generate(SITES["source"].altered(None, None, dict.fromkeys(FACTORS, 0.0) | factors), index)


@pytest.fixture(scope="module")
def plain() -> PhantomCase:
    return at()


@pytest.fixture(scope="module")
def firsts() -> dict[str, PhantomCase]:
    return {name: generate(site, 0) for name, site in SITES.items()}


def test_one_source_four_test_and_two_dev_sites() -> None:
    roles = [site.role for site in SITES.values()]
    assert (roles.count("source"), roles.count("test"), roles.count("dev")) == (1, 4, 2)
    assert len({site.seed for site in SITES.values()}) == len(SITES)


def test_test_sites_are_what_was_committed(firsts: dict[str, PhantomCase]) -> None:
    hashes = committed_hashes()
    assert {name: firsts[name].digest() for name in TESTS} == {name: hashes[f"{name}_000"] for name in TESTS}
    cases = [SITES[name].case_id(i) for name in TESTS for i in range(SITES[name].cases)]
    assert joined({case: hashes[case] for case in cases}) == hashes["content"]


@pytest.mark.slow
@pytest.mark.no_cover  # a hundred times what the other tests of this file run
def test_every_case_of_every_site_is_what_was_committed_and_no_two_of_sixty_are_one_scan(
    firsts: dict[str, PhantomCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[Scan] = []

    def described(settings: SiteSettings, index: int) -> PhantomCase:
        case, name = generate(settings, index) if index else firsts[settings.name], settings.case_id(index)
        if settings.role == "dev" or index >= 12:  # sixty are enough
            return case
        (tmp_path / name).mkdir()
        describe_original(tmp_path / name, case.image, case.affine)
        scans.append(Scan(settings.name, name, name, tmp_path / name / DESCRIPTOR))
        return case

    monkeypatch.setattr("datamodules.phantom_hashes.generate", described)
    assert hash_sites() == committed_hashes()
    assert len(scans) == 60
    assert all(Descriptor.read(scan.path).comparable for scan in scans)
    assert find_pairs(scans) == []


def test_a_voxel_a_label_or_the_geometry_changes_the_hash(plain: PhantomCase) -> None:
    others = [
        replace(plain, image=plain.image + (np.arange(plain.image.size).reshape(plain.image.shape) == 7)),
        replace(plain, label=np.where(plain.label > 0, 0, plain.label).astype(np.uint8)),
        replace(plain, affine=plain.affine + 1e-3),
        at(1),
    ]
    assert len({plain.digest(), *(other.digest() for other in others)}) == 5
    assert at.__wrapped__().digest() == plain.digest()


def test_files_lie_in_different_orientations_and_show_the_same_patient(firsts: dict[str, PhantomCase]) -> None:
    codes = {name: "".join(nib.aff2axcodes(case.affine)) for name, case in firsts.items()}
    assert codes == {name: site.orientation for name, site in SITES.items()}
    assert len(set(codes.values())) == len(codes)
    settings = SITES["north"]
    one, other = (generate(replace(settings, orientation=turned), 0) for turned in ("RAS", "PIL"))
    for (a, b), affines in zip(
        ((one.image, other.image), (one.label, other.label)), [(one.affine, other.affine)] * 2, strict=True
    ):
        first, second = (
            nib.as_closest_canonical(nib.Nifti1Image(voxels, affine))
            for voxels, affine in zip((a, b), affines, strict=True)
        )
        np.testing.assert_array_equal(np.asarray(first.dataobj), np.asarray(second.dataobj))
        np.testing.assert_allclose(first.affine, second.affine, atol=1e-9)


def test_the_liver_is_on_the_right_and_the_spine_behind(plain: PhantomCase) -> None:
    image, label, _ = canonical(plain)
    head_to_tail = np.argwhere(label > 0)
    middle = image.shape[0] / 2
    liver = np.argwhere((ndimage.uniform_filter(image, 5) > 95) & (ndimage.uniform_filter(image, 5) < 130))
    assert liver[:, 0].mean() > middle
    assert np.argwhere(image > 350)[:, 1].mean() < head_to_tail[:, 1].mean()
    lower, upper = np.percentile(head_to_tail[:, 0], [10, 90])
    assert lower < middle < upper  # from right of the spine to the left flank


def test_a_pancreas_is_one_piece_of_an_adults_volume_with_kin_beside_it(firsts: dict[str, PhantomCase]) -> None:
    for name, case in firsts.items():
        image, label, spacing = canonical(case)
        mask = label > 0
        assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1, name
        assert 25 < mask.sum() * np.prod(spacing) / 1000 < 130, name
        assert not any(mask.take(edge, axis).any() for axis in range(3) for edge in (0, -1)), name
        distance = ndimage.distance_transform_edt(~mask, sampling=spacing)
        ring = image[(distance > 0) & (distance <= 5)]
        soft = np.abs(ring - np.median(core(case))) < 40
        assert 0.1 < soft.mean() < 0.9, name  # part of its border is fat, part is gut and vessel of nearly its HU


def test_tissues_measure_what_the_literature_says(plain: PhantomCase) -> None:
    image, _, _ = canonical(plain)
    assert image.min() == pytest.approx(-1000, abs=24)
    smooth = ndimage.uniform_filter(image, 3)
    fat = smooth[(smooth > -140) & (smooth < -60)]
    assert np.median(fat) == pytest.approx(-102, abs=6)
    for phase, column in ((0.0, 0), (0.5, 1), (1.0, 2)):
        hu = np.median(np.concatenate([core(at(i, phase=phase)) for i in range(2)]))
        assert hu == pytest.approx(PHASES["pancreas"][column], abs=15)


def test_the_phase_moves_hu_and_no_border(plain: PhantomCase) -> None:
    native = at(phase=1.0)
    np.testing.assert_array_equal(native.label, plain.label)
    np.testing.assert_array_equal(native.affine, plain.affine)
    assert np.median(core(plain)) - np.median(core(native)) > 35
    air = plain.image < -990
    assert np.abs(native.image[air].astype(int) - plain.image[air]).mean() < 1


def test_noise_moves_deviation_and_no_mean(plain: PhantomCase) -> None:
    loud = at(noise=1.0)
    np.testing.assert_array_equal(loud.label, plain.label)
    np.testing.assert_array_equal(loud.affine, plain.affine)
    assert np.median(core(loud)) == pytest.approx(np.median(core(plain)), abs=4)
    assert core(plain, 4).std() < 3 * QUIET
    assert core(loud, 4).std() > 1.6 * core(plain, 4).std()


def test_a_sharp_kernels_noise_is_finer(plain: PhantomCase) -> None:
    def neighbours(case: PhantomCase) -> float:
        air = canonical(case)[0][:14, :14]  # a corner beside the body
        return float(np.corrcoef(air[1:].ravel(), air[:-1].ravel())[0, 1])

    assert neighbours(plain) > neighbours(at(noise=1.0)) + 0.15


def test_slice_thickness_moves_the_slices_and_no_pixel(plain: PhantomCase) -> None:
    thick = at(slice_thickness=1.0)
    spacing, coarse = canonical(plain)[2], canonical(thick)[2]
    assert coarse[:2] == pytest.approx(spacing[:2])
    assert [spacing[2], coarse[2]] == pytest.approx([THIN, THICK])
    volumes = [np.prod(canonical(case)[2]) * (case.label > 0).sum() for case in (plain, thick)]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.1)
    assert np.median(core(thick)) == pytest.approx(np.median(core(plain)), abs=8)


def test_habitus_brings_fat_around_and_into_the_pancreas() -> None:
    slim, stout = ([at(i, habitus=h) for i in range(3)] for h in (0.0, 1.0))
    for before, after in zip(slim, stout, strict=True):
        assert np.median(core(after)) < np.median(core(before)) - 15
    widths = [[case.affine[0, 0] ** 2 for case in cases] for cases in (slim, stout)]
    assert max(np.subtract(widths[1], widths[0])) > 0  # who grows obese needs a wider field of view


def test_lesions_are_labelled_and_hypodense(plain: PhantomCase) -> None:
    ill = at(lesions=1.0)
    assert set(np.unique(plain.label)) == {0, PANCREAS}
    assert set(np.unique(ill.label)) == {0, PANCREAS, LESION}
    np.testing.assert_array_equal(ill.affine, plain.affine)
    image, label, _ = canonical(ill)
    assert np.median(image[label == LESION]) < np.median(core(ill)) - 20
    far = ndimage.binary_dilation((plain.label > 0) | (ill.label > 0), iterations=12)
    assert np.abs(ill.image.astype(int) - plain.image)[~far].max() == 0


def test_field_of_view_moves_pixel_range_and_centre_and_no_size() -> None:
    normal, shifted = ([at(i, field_of_view=f) for i in range(4)] for f in (0.0, 1.0))
    pixels, heights, centres = [], [], []
    for a, b in zip(normal, shifted, strict=True):
        spacings = canonical(a)[2], canonical(b)[2]
        pixels.append(spacings[1][0] / spacings[0][0])
        heights.append(b.image.shape[2] / a.image.shape[2])
        centres.append([(np.argwhere(c.label > 0).mean(0) / c.label.shape)[0] for c in (a, b)])
        assert spacings[0][2] == spacings[1][2]
        volumes = [np.prod(s) * (c.label > 0).sum() for s, c in zip(spacings, (a, b), strict=True)]
        assert volumes[1] == pytest.approx(volumes[0], rel=0.06)
    assert max(pixels) / min(pixels) > 1.1
    assert max(heights) / min(heights) > 1.05
    assert np.abs(np.diff(centres, axis=1)).max() > 0.02


def test_anatomies_differ_from_case_to_case() -> None:
    masks = []
    for index in range(6):
        _, label, spacing = canonical(at(index))
        cells = np.argwhere(label > 0) * spacing - np.array(label.shape) * spacing / 2  # from the image's middle
        masks.append({tuple(cell) for cell in np.floor(cells / 4).astype(int)})
    scores = [2 * len(a & b) / (len(a) + len(b)) for a, b in combinations(masks, 2)]
    assert np.mean(scores) < 0.5


def test_a_site_is_listed_without_files_and_read_like_any_other(tmp_path: Path) -> None:
    site = PhantomSite(name="mine", site="east", cases=2, root=str(tmp_path / "phantoms"))
    cases = LAYOUTS.build(site)
    assert [case.case for case in cases] == ["east_000", "east_001"]
    assert not (tmp_path / "phantoms").exists()
    site.materialise(cases[0])
    written = cases[0].image.stat().st_mtime_ns
    site.materialise(cases[0])
    assert cases[0].image.stat().st_mtime_ns == written
    assert not cases[1].image.exists()
    raw = read_case(cases[0], site, labelled=True)
    made = generate(site.settings(), 0)
    assert raw.label is not None
    assert float(raw.label.data.sum()) == (made.label > 0).sum()
    assert sorted(path.name for path in cases[0].image.parent.iterdir()) == ["image.nii.gz", "label.nii.gz"]


def test_another_setting_has_another_folder_and_more_cases_the_same(tmp_path: Path) -> None:
    def folder(**options: object) -> Path:
        return PhantomSite(name="x", site="north", root=str(tmp_path), **options).folder()  # type: ignore[arg-type]

    plain = folder()
    assert folder(cases=3) == plain
    assert len({plain, folder(seed=1), folder(factors={"noise": 0.5}), folder(factors={"phase": 0.5})}) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "nroth"}, "no phantom site 'nroth' (is 'north' meant?)"),
        ({"factors": {"nois": 0.1}}, "no factor 'nois' (is 'noise' meant?)"),
        ({"factors": {"noise": 1.5}}, "'noise' is 1.5, and 0 to 1 is wanted"),
        ({"cases": 0}, "'cases' is 0, and at least 1 is wanted"),
    ],
)
def test_a_wrong_option_is_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as told:
        LAYOUTS.build(PhantomSite(name="x", **options))  # type: ignore[arg-type]
    assert message in str(told.value)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    site = PhantomSite(name="x", cases=1, root=str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"source_000.*can't be written"):
        site.materialise(LAYOUTS.build(site)[0])
