"""Whatever is wrong with one case costs that case, by name and with the reason; the others are what they would be."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from faulty_site import KEPT, NAMES, ODD, REASONS, SEEN_OTHERWISE, write_faulty_site

from datamodules.config import StructureConfig
from datamodules.native import native_label
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site
from datamodules.store import StoredCase

GRID = (5.0, 5.0, 8.0)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Preparation:
    home = tmp_path_factory.mktemp("faults")
    site = write_faulty_site(home / "site")
    with _heard(home / "said"):
        found = prepare_site(site, GRID, StructureConfig(), home / "store", progress=False)
    # What the libraries would say of such files is no help to anybody.
    assert (home / "said").read_text() == ""
    return found


@contextmanager
def _heard(path: Path) -> Iterator[None]:
    """Write to a file what anybody prints, libraries in C too."""
    before = [os.dup(1), os.dup(2)]
    try:
        with path.open("wb") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
    finally:
        for number, old in enumerate(before, start=1):
            os.dup2(old, number)
            os.close(old)


def _kept(found: Preparation) -> dict[str, StoredCase]:
    return {case.record.case: case for case in found.kept}


@pytest.mark.parametrize("fault", REASONS)
def test_a_damaged_case_is_left_out_with_the_reason_in_one_sentence(found: Preparation, fault: str) -> None:
    reason = found.excluded[fault]
    assert REASONS[fault] in reason
    assert reason.isprintable()
    assert len(reason) < 600
    assert "could not be prepared" not in reason  # that would be a fault nobody had thought of


def test_no_other_case_is_left_out_and_none_of_them_has_left_anything(found: Preparation) -> None:
    assert set(found.excluded) == set(REASONS)
    assert sorted(_kept(found)) == sorted(KEPT)
    report = json.loads((found.folder / "preparation.json").read_text("utf-8"))
    assert {case: entry["reason"] for case, entry in report["excluded"].items()} == found.excluded
    assert sorted(report["kept"]) == sorted(KEPT)
    assert {path.name for path in found.folder.iterdir() if path.is_dir()} == set(KEPT)


@pytest.mark.parametrize("name", [*ODD, *NAMES])
def test_an_odd_case_holds_what_the_good_one_does(found: Preparation, name: str) -> None:
    good, odd = _kept(found)["good"], _kept(found)[name]
    np.testing.assert_array_equal(odd.label(), good.label())
    np.testing.assert_allclose(odd.image(), good.image(), atol=1)
    np.testing.assert_allclose(odd.record.affine, good.record.affine, atol=1e-4)
    assert native_label(odd.record).sum() == native_label(good.record).sum()


@pytest.mark.parametrize("name", SEEN_OTHERWISE)
def test_on_another_grid_the_organ_has_the_same_volume(found: Preparation, name: str) -> None:
    good, other = _kept(found)["good"].record, _kept(found)[name].record
    assert other.pancreas_volume_ml == pytest.approx(good.pancreas_volume_ml, rel=0.02)
