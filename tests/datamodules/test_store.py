"""The store gives back what was written, a window without the volume, in any process."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.store import CaseRecord, StoredCase, write_case

SHAPE = (150, 40, 33)


def _record() -> CaseRecord:
    matrix = np.diag([0.7, 0.7, 2.5, 1.0]).tolist()
    return CaseRecord(
        "somewhere", "fäll 1", "p", SHAPE, (0.7, 0.7, 2.5), matrix, (160, 50, 40), matrix,
        "/a/b.nii.gz", None, [1, 2], "d", "f", 81.25, ["odd"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "image": generator.integers(-1024, 3072, SHAPE).astype(np.int16),
        "label": generator.integers(0, 2, SHAPE).astype(np.uint8),
        "distance": generator.integers(-10000, 10001, SHAPE).astype(np.int16),
        "axis": generator.integers(0, 256, SHAPE).astype(np.uint8),
        "foreground": generator.integers(0, 30, (50, 4)).astype(np.int32),
    }


@pytest.fixture(scope="module")
def stored(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> StoredCase:
    folder = tmp_path_factory.mktemp("case")
    write_case(folder, _record(), **arrays)
    return StoredCase(folder)


def test_a_record_survives_json() -> None:
    assert CaseRecord.from_dict(json.loads(json.dumps(_record().to_dict()))) == _record()


def test_every_array_comes_back(stored: StoredCase, arrays: dict[str, np.ndarray]) -> None:
    assert stored.record == _record()
    assert stored.labelled
    for name, array in arrays.items():
        read = getattr(stored, name)()
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


@given(st.data())
def test_a_window_is_that_part_of_the_volume(
    stored: StoredCase, arrays: dict[str, np.ndarray], data: st.DataObject
) -> None:
    sides = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in SHAPE]
    window = (slice(*sides[0]), slice(*sides[1]), slice(*sides[2]))
    name = data.draw(st.sampled_from(["image", "label", "distance", "axis"]))
    np.testing.assert_array_equal(getattr(stored, name)(window), arrays[name][window])


def test_a_case_without_a_label_has_an_image_only(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_case(tmp_path, _record(), arrays["image"])
    assert not StoredCase(tmp_path).labelled
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.b2nd", "record.json"]


def _sum(case: StoredCase) -> int:
    return int(case.image().sum(dtype=np.int64))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_an_opened_case_can_be_read_in_another_process(
    stored: StoredCase, arrays: dict[str, np.ndarray], method: str
) -> None:
    expected = int(arrays["image"].sum(dtype=np.int64))
    assert _sum(stored) == expected
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(_sum, (stored,)).get(timeout=60) == expected


def test_pickling_an_opened_case_carries_no_voxels(stored: StoredCase) -> None:
    _sum(stored)
    packed = pickle.dumps(stored)
    assert len(packed) < 2000
    assert _sum(pickle.loads(packed)) == _sum(stored)


@pytest.mark.slow
def test_a_patch_comes_twenty_times_faster_than_from_the_nifti_file() -> None:
    path = Path(__file__).parents[1] / "benchmarks" / "store_patch.py"
    spec = importlib.util.spec_from_file_location("store_patch", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    assert benchmark.measure(repeats=5)["ratio"] >= 20
