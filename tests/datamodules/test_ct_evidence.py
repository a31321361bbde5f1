"""A CT in HU is told from what is none by what it shows, with the evidence and a way out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ct_files import SHAPE, abdomen, save

from datamodules.ct_evidence import examine, not_a_ct
from datamodules.errors import CaseError
from datamodules.layouts.site import Case, SiteConfig
from datamodules.reading import read_case
from datamodules.volume_files import read_volume

REAL = os.environ.get("PANSITE_TEST_DATA")


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


def test_the_check_can_be_switched_off(tmp_path: Path) -> None:
    path = save(tmp_path / "i.nii.gz", abdomen()[0].clip(-100, 240))
    with pytest.raises(CaseError, match="not a CT"):
        read_case(Case("a", "a", path, None), SiteConfig(layout="any"), labelled=False)
    unchecked = read_case(Case("a", "a", path, None), SiteConfig(layout="any", check_ct=False), labelled=False)
    assert unchecked.image.spatial_shape == SHAPE


@pytest.mark.skipif(REAL is None, reason="PANSITE_TEST_DATA is not set: no real CTs here")
def test_a_real_ct_shows_every_sign_of_one() -> None:
    evidence = examine(read_volume(Path(REAL or ".") / "totalsegmentator" / "example_ct.nii.gz")[0])
    assert evidence.against() == []
    assert evidence.air > 0.2
    assert evidence.fat > 0.1
    assert evidence.bone > 0.01
