"""The location prior finds what lies still and fails on phantoms, whose anatomy varies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.layouts.phantom import PhantomSite
from datamodules.layouts.phantom import cases as phantoms
from datamodules.location_prior import LocationPrior, body_box
from datamodules.store import CaseRecord, StoredCase, write_case
from tests.conftest import Tiny


def stored(folder: Path, image: NDArray[np.int16], label: NDArray[np.uint8]) -> StoredCase:
    folder.mkdir(parents=True)
    shape = (image.shape[0], image.shape[1], image.shape[2])
    eye = np.eye(4).tolist()
    record = CaseRecord(
        "site", folder.name, folder.name, shape, (4.0, 4.0, 4.0), eye, shape, eye, "", "", [1], "", "", 1.0, []
    )
    write_case(folder, record, image, label)
    return StoredCase(folder)


def box_cases(folder: Path, shifts: Sequence[tuple[int, int]], organ: int = 0) -> list[StoredCase]:
    """A body of water that lies elsewhere in each image, with a cube at one place of it, moved by ``organ``."""
    cases = []
    for number, (x, y) in enumerate(shifts):
        image = np.full((60, 60, 30), -1000, dtype=np.int16)
        image[x : x + 40, y : y + 40] = 30
        label = np.zeros(image.shape, dtype=np.uint8)
        label[x + 10 + organ * number : x + 20 + organ * number, y + 15 : y + 25, 10:20] = 1
        cases.append(stored(folder / str(number), image, label))
    return cases


def test_what_keeps_its_place_in_the_body_is_found_wherever_the_body_lies(tmp_path: Path) -> None:
    cases = box_cases(tmp_path, [(2, 3), (15, 1), (8, 18)])
    prior = LocationPrior.fit(cases[:2])
    prediction = prior.predict(cases[2])
    assert prediction.dtype == np.bool_
    assert prediction.shape == cases[2].image().shape
    assert prior.dice(cases[2]) > 0.9


def test_what_moves_is_not_found(tmp_path: Path) -> None:
    cases = box_cases(tmp_path, [(0, 0), (5, 5), (10, 10)], organ=8)
    assert LocationPrior.fit(cases[:2]).dice(cases[2]) < 0.3


def test_the_threshold_is_the_best_on_the_training_cases(tmp_path: Path) -> None:
    cases = box_cases(tmp_path, [(0, 0), (5, 5), (10, 10), (3, 9)], organ=2)
    prior = LocationPrior.fit(cases)
    best = np.mean([prior.dice(case) for case in cases])
    for threshold in (0.1, 0.4, 0.7, 0.9):
        other = LocationPrior(prior.frequency, threshold)
        assert np.mean([other.dice(case) for case in cases]) <= best + 1e-12


def test_a_volume_without_a_body_is_its_own_box() -> None:
    assert body_box(np.full((4, 5, 6), -1000, dtype=np.int16)) == ((0, 4), (0, 5), (0, 6))


def test_no_case_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one case"):
        LocationPrior.fit([])


def test_location_alone_scores_low_on_phantoms(tiny: Tiny, tmp_path: Path) -> None:
    site = PhantomSite(name="source", site="source", cases=14, root=str(tiny.phantoms))
    cases = []
    for number, case in enumerate(phantoms(site)):
        site.materialise(case)
        image, label = (nib.as_closest_canonical(nib.load(path)) for path in (case.image, case.label))
        voxels = np.asarray(image.dataobj), (np.asarray(label.dataobj) > 0).astype(np.uint8)
        spacing = np.array(image.header.get_zooms())
        cases.append(stored(tmp_path / str(number), *(ndimage.zoom(array, spacing / 4.0, order=0) for array in voxels)))
    prior = LocationPrior.fit(cases[:10])
    assert np.mean([prior.dice(case) for case in cases[10:]]) < 0.4
    assert np.mean([prior.dice(case) for case in cases[:10]]) > 0.15  # it has learned something, though
