"""What is watched of the embedding: cosines per ring, and MONAI's measure of collapse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.embedding_watch import watch
from lightning_modules.regions.structure import FINEST, Partition

REGION = torch.arange(9).repeat_interleave(4)
E = 16
NAMES = (
    *(f"cosine/{ring}" for ring in ("near", "mid", "far")),
    *(f"embedding/{score}" for score in ("collapse", "centroid_similarity", "effective_rank_score")),
)


def unit(seed: int, pictures: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(pictures, len(REGION), E, generator=generator), dim=2)


def full(pictures: int = 1) -> Tensor:
    return torch.ones(pictures, len(REGION), dtype=torch.bool)


def test_a_rings_cosine_is_the_mean_over_pairs_within_a_picture_and_then_over_pictures() -> None:
    embedding, valid = unit(0, 3), full(3)
    valid[0, REGION == 7] = False  # no mid ring
    valid[1, REGION < 6] = False  # no pancreas
    valid[2, ::3] = False
    found = watch(embedding, valid, REGION, FINEST)
    for i, ring in ((6, "near"), (7, "mid"), (8, "far")):
        means = []
        for z, ok in zip(embedding, valid, strict=True):
            pairs = [float(a @ b) for a in z[ok & (REGION < 6)] for b in z[ok & (i == REGION)]]
            if pairs:
                means.append(sum(pairs) / len(pairs))
        assert len(means) == (1 if ring == "mid" else 2)
        assert found[f"cosine/{ring}"].item() == pytest.approx(sum(means) / len(means), rel=1e-5)


def test_merged_rings_are_one_cosine_of_their_name() -> None:
    partition = Partition.of("none", "one")
    region = torch.tensor(partition.region)[REGION]
    found = watch(unit(0), full(), region, partition)
    assert [name for name in found if name.startswith("cosine/")] == ["cosine/background"]
    z = unit(0)[0]
    assert found["cosine/background"].item() == pytest.approx(
        (z[region == 0] @ z[region == 1].T).mean().item(), rel=1e-5
    )


def test_collapse_tells_one_point_from_opposite_clusters_and_from_a_spread() -> None:
    point = torch.zeros(1, len(REGION), E)
    point[..., 0] = 1
    opposite = torch.where(REGION[:, None] < 6, point, -point)
    scores = {
        name: {key.partition("/")[2]: value.item() for key, value in watch(z, full(), REGION, FINEST).items()}
        for name, z in {
            "point": point,
            "nearly": F.normalize(point + 1e-3 * unit(3), dim=2),
            "opposite": F.normalize(opposite + 1e-3 * unit(3), dim=2),
            "spread": unit(4),
        }.items()
    }
    assert scores["point"]["collapse"] == scores["nearly"]["collapse"] == pytest.approx(1, abs=1e-3)
    assert scores["opposite"]["centroid_similarity"] == pytest.approx(0, abs=1e-3)
    assert scores["opposite"]["effective_rank_score"] > 0.9
    assert scores["spread"]["effective_rank_score"] < 0.3
    for found in scores.values():
        assert found["collapse"] == max(found["centroid_similarity"], found["effective_rank_score"])


def test_what_no_picture_can_tell_is_zero_and_the_names_stay() -> None:
    empty = full(2)
    empty[:, REGION < 6] = False
    found = watch(unit(0, 2), empty, REGION, FINEST)
    assert {name: value.item() for name, value in found.items()} == dict.fromkeys(NAMES, 0)
    alone = full(2)
    alone[1, REGION < 6] = False
    found = watch(unit(0, 2), alone, REGION, FINEST)
    single = watch(unit(0, 2)[:1], alone[:1], REGION, FINEST)
    assert {n: v.item() for n, v in found.items()} == pytest.approx({n: v.item() for n, v in single.items()})


def test_half_precision_autocast_and_a_broken_embedding_are_borne() -> None:
    embedding = unit(0, 2)
    exact = watch(embedding.double(), full(2), REGION, FINEST)
    with torch.autocast("cpu", torch.bfloat16):
        under = watch(embedding, full(2), REGION, FINEST)
    assert {n: v.item() for n, v in under.items()} == {n: v.item() for n, v in exact.items()}
    assert all(v.dtype == torch.float32 for v in exact.values())
    embedding[1, 3] = torch.nan
    broken = watch(embedding, full(2), REGION, FINEST)
    assert broken["embedding/collapse"].isnan()
