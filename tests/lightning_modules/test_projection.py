"""The projection head."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lightning_modules.projection import ProjectionHead


def test_a_cells_embedding_is_what_1x1x1_convolutions_over_the_map_give_there() -> None:
    head = ProjectionHead(6, 128, seed=0).double()
    features = torch.randn(2, 6, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def convolution(x: torch.Tensor, layer: torch.nn.Linear) -> torch.Tensor:
        return F.conv3d(x, layer.weight[:, :, None, None, None], layer.bias)

    volume = F.normalize(convolution(F.leaky_relu(convolution(features, head.hidden)), head.output), dim=1)
    cells = head(features.flatten(2).transpose(1, 2))
    torch.testing.assert_close(cells, volume.flatten(2).transpose(1, 2))


def test_embeddings_have_length_one_in_float32_even_inside_autocast_and_of_half_precision() -> None:
    head = ProjectionHead(8, 16, seed=0)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        cells = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).mul(2e4).clamp(-6e4, 6e4).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedding = head(cells)
        assert embedding.dtype == torch.float32
        torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(50))
    assert (head(torch.randn(500, 8)) < 0).any(), "no ReLU at the end"


def test_the_head_is_drawn_from_a_stream_of_its_own() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (ProjectionHead(8, 16, seed).output.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_fresh_head_keeps_random_features_apart() -> None:
    embedding = ProjectionHead(32, 128, seed=0)(torch.randn(400, 32, generator=torch.Generator().manual_seed(0)))
    cosine = embedding @ embedding.T
    assert cosine.fill_diagonal_(0).abs().mean() < 0.4
