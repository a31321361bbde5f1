"""What the viewer shows of a case: the right way round, around the organ, and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from callbacks.seen import Seen
from callbacks.viewed_volumes import FARTHEST_MM, SIDE_MM, write_volume

SPACING = (2.0, 3.0, 4.0)


def written(path: Path, label: np.ndarray, probability: np.ndarray) -> dict[str, np.ndarray]:
    image = np.broadcast_to(np.linspace(0, 1, label.shape[2], dtype=np.float32), label.shape)  # brighter upwards
    write_volume(path, Seen(image, label, probability.astype(np.float32), SPACING))
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_it_lies_from_top_to_bottom_front_to_back_and_right_to_left_around_label_and_prediction(tmp_path: Path) -> None:
    label, probability = np.zeros((90, 60, 40), bool), np.zeros((90, 60, 40))
    label[40:50, 30:36, 20:22] = True
    probability[44:66, 30:36, 20:22] = 0.9  # reaches 32 mm beyond the label
    probability[2, 2, 2] = 0.9  # too far to be shown
    found = written(tmp_path / "v.npz", label, probability)
    assert found["spacing"].tolist() == [4, 3, 2]
    masks = found["masks"]
    assert masks.shape == found["image"].shape
    where = np.argwhere(masks & 1)
    assert (where.max(axis=0) - where.min(axis=0) + 1).tolist() == [2, 6, 10]
    right, left = where.min(axis=0)[2], masks.shape[2] - 1 - where.max(axis=0)[2]
    assert (left, right) == (round(SIDE_MM / 2), 19), "the patient's right comes first, where a prediction reaches"
    assert ((masks >> 1) & 1).sum() == 22 * 6 * 2
    assert masks.shape[2] * 2 < 20 + SIDE_MM + FARTHEST_MM
    assert found["image"][0].mean() > found["image"][-1].mean(), "the top of the patient comes first"
    assert set(np.unique(masks >> 2)) == {0, round(15 * 0.469)}


@pytest.mark.parametrize("predicted", [True, False])
def test_where_one_of_both_is_empty_the_other_is_shown_and_where_both_are_all(tmp_path: Path, predicted: bool) -> None:
    mask, nothing = np.zeros((40, 40, 40), bool), np.zeros((40, 40, 40))
    mask[18:22, 18:22, 18:22] = True
    found = written(tmp_path / "v.npz", nothing > 1 if predicted else mask, mask * 1.0 if predicted else nothing)
    assert found["masks"].shape == (4 + 2 * 6, 4 + 2 * 8, 4 + 2 * 12)
    assert written(tmp_path / "w.npz", nothing > 1, nothing)["masks"].shape == (40, 40, 40)


def test_a_large_noisy_volume_stays_small_and_its_voxels_near_to_cubes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.zeros((400, 400, 60), bool)
    label[50:350, 150:250, 20:40] = True
    probability = rng.random(label.shape, np.float32) * label
    image = rng.normal(0.5, 0.05, label.shape).astype(np.float32)
    write_volume(tmp_path / "v.npz", Seen(image, label, probability, (0.8, 0.8, 2.5)))
    assert (tmp_path / "v.npz").stat().st_size < 500_000
    with np.load(tmp_path / "v.npz") as file:
        assert max(file["image"].shape) <= 128
        assert file["spacing"].tolist() == pytest.approx([2.5, 2.4, 2.4])
