from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.augmentation.config import AUGMENTATIONS, LightConfig, NoneConfig, StandardConfig
from datamodules.patches import PatchDataset, collate, read_padded
from datamodules.sampling import Stream, patch_centre
from datamodules.store import CaseRecord, StoredCase, write_case

PATCH = (12, 16, 10)


def _store_case(folder: Path, name: str, shape: tuple[int, int, int], seed: int) -> StoredCase:
    generator = np.random.default_rng(seed)
    label = np.zeros(shape, dtype=np.uint8)
    label[tuple(slice(n // 3, n // 3 + 4) for n in shape)] = 1
    voxels = np.argwhere(label)
    foreground = np.column_stack([voxels, np.arange(len(voxels)) % 3]).astype(np.int32)
    record = CaseRecord(
        site="here",
        case=name,
        patient=name,
        shape=shape,
        spacing=(1.0, 1.0, 2.0),
        affine=np.eye(4).tolist(),
        native_shape=shape,
        native_affine=np.eye(4).tolist(),
        image_path="",
        label_path="",
        labels=[1],
        digest="",
        fingerprint="",
        pancreas_volume_ml=1.0,
        warnings=[],
    )
    home = folder / name
    home.mkdir()
    write_case(
        home,
        record,
        generator.integers(-1000, 1000, shape).astype(np.int16),
        label,
        np.where(label == 1, -100, generator.integers(1, 9000, shape)).astype(np.int16),
        np.where(label == 1, 7, 255).astype(np.uint8),
        foreground,
    )
    return StoredCase(home)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[StoredCase]:
    folder = tmp_path_factory.mktemp("store")
    return [
        _store_case(folder, "large", (40, 50, 45), seed=0),
        _store_case(folder, "small", (9, 20, 8), seed=1),
    ]


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, (9, 7, 11)).astype(np.int16)


@given(
    start=st.tuples(*[st.integers(-15, 15)] * 3),
    size=st.tuples(*[st.integers(1, 14)] * 3),
)
def test_a_box_holds_the_volume_where_they_meet_and_the_filling_elsewhere(
    volume: np.ndarray, start: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    framed = np.pad(volume, 30, constant_values=-7)
    expected = framed[tuple(slice(30 + s, 30 + s + n) for s, n in zip(start, size, strict=True))]
    box = read_padded(lambda window: volume[window], volume.shape, start, size, outside=-7)
    np.testing.assert_array_equal(box, expected)
    assert box.dtype == volume.dtype


def _dataset(cases: list[StoredCase], config: LightConfig | NoneConfig) -> PatchDataset:
    augmentation = AUGMENTATIONS.build(
        config, seed=0, spacing=(1.0, 1.0, 2.0), window=(-100.0, 240.0), patch_size=PATCH
    )
    return PatchDataset(cases, Stream(0, len(cases), 2, 2 / 3), PATCH, augmentation)


@pytest.mark.parametrize("position", range(8))
def test_a_patch_is_the_volume_around_its_centre_and_air_outside(cases: list[StoredCase], position: int) -> None:
    dataset = _dataset(cases, NoneConfig())
    patch = dataset[position]
    place = dataset.stream.place(position)
    case = cases[place.case]
    centre = patch_centre(place, 0, case.record.shape, case.foreground())
    window = tuple(slice(c - p // 2 + 50, c - p // 2 + 50 + p) for c, p in zip(centre, PATCH, strict=True))
    for ours, whole, outside in [
        (patch.image, case.image(), -1024),
        (patch.label, case.label(), 0),
        (patch.distance, case.distance(), 10_000),
        (patch.axis, case.axis(), 255),
    ]:
        np.testing.assert_array_equal(ours, np.pad(whole, 50, constant_values=outside)[window])
    assert patch.key == (place.epoch, place.index)
    assert patch.case == case.record.case
    if place.foreground:
        assert patch.label[tuple(p // 2 for p in PATCH)] == 1


def test_only_the_window_of_a_patch_is_read(cases: list[StoredCase], monkeypatch: pytest.MonkeyPatch) -> None:
    windows = []
    read = StoredCase._read

    def spy(self: StoredCase, name: str, window: object) -> np.ndarray:
        windows.append(window)
        return read(self, name, window)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(StoredCase, "_read", spy)
    _dataset(cases, NoneConfig())[0]
    assert len(windows) == 4
    assert all(s.stop - s.start <= p for window in windows for s, p in zip(window, PATCH, strict=True))


@settings(max_examples=20, deadline=None)
@given(position=st.integers(0, 1000))
def test_the_margin_is_what_the_augmentation_asks_for_and_no_more(cases: list[StoredCase], position: int) -> None:
    dataset = _dataset(cases, StandardConfig())
    patch = dataset[position]
    margin = dataset.margin.margin(*patch.key)
    assert patch.image.shape == tuple(p + 2 * m for p, m in zip(PATCH, margin, strict=True))
    augmented = dataset.margin(collate([patch]))  # type: ignore[operator]  # the augmentation itself
    assert augmented.image.shape == (1, 1, *PATCH)


def test_the_margin_does_not_move_the_patch(cases: list[StoredCase]) -> None:
    class Wide:
        def margin(self, epoch: int, index: int) -> tuple[int, int, int]:
            return (3, 0, 2)

    plain = _dataset(cases, NoneConfig())
    wide = PatchDataset(cases, plain.stream, PATCH, Wide())
    assert torch.equal(wide[3].image[3:-3, :, 2:-2], plain[3].image)


def test_patches_of_different_margin_lie_side_by_side_in_a_batch(cases: list[StoredCase]) -> None:
    batch = collate([_dataset(cases, NoneConfig())[0], _dataset(cases, StandardConfig())[1]])
    assert [image.dtype for image in batch.image] == [torch.int16] * 2
    assert len(batch.key) == len(batch.case) == len(batch.axis) == 2
