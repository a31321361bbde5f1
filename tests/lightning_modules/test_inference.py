"""Whole volumes: windows, flips, padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.inference import InferenceSettings, predict_probability

WINDOW = (8, 8, 8)


def pointwise(x: Tensor) -> Tensor:
    return 4 * x - 2


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 20, 13), (17, 9, 8)])
def test_a_pointwise_network_gives_its_own_value_at_every_voxel(shape: tuple[int, int, int], flips: bool) -> None:
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    found = predict_probability(pointwise, image, WINDOW, InferenceSettings(0.5, flips))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pointwise(image).sigmoid())


def test_flips_make_the_prediction_mirror_with_the_image() -> None:
    torch.manual_seed(0)
    network = nn.Conv3d(1, 1, 3, padding=1)
    image = torch.rand(1, 1, 12, 10, 8, generator=torch.Generator().manual_seed(0))
    for axis in (2, 3, 4):
        for flips, equal in ((True, True), (False, False)):
            settings = InferenceSettings(0.5, flips)
            straight = predict_probability(network, image, WINDOW, settings)
            mirrored = predict_probability(network, image.flip(axis), WINDOW, settings).flip(axis)
            assert torch.allclose(straight, mirrored, atol=1e-5) is equal


def test_half_precision_logits_give_float32_probabilities_without_a_graph() -> None:
    network = nn.Conv3d(1, 1, 1)
    found = predict_probability(
        lambda x: network(x).to(torch.bfloat16), torch.rand(1, 1, 8, 8, 8), WINDOW, InferenceSettings()
    )
    assert found.dtype == torch.float32
    assert not found.requires_grad
