"""What is watched of the contrasted embedding: how near the rings are to the pancreas, and whether it collapses.

P picture (a view of an image), K slots, E embedding. Each value is a mean over the pictures of all ranks that can tell
it; where none can, it is 0.
"""

from __future__ import annotations

import torch
from monai.metrics import EmbeddingCollapseMetric
from torch import Tensor

from lightning_modules.gather import ranks, sum_over_ranks
from lightning_modules.precision import no_autocast
from lightning_modules.regions.structure import Partition

_COLLAPSE = EmbeddingCollapseMetric(include_indicators=("centroid_similarity", "effective_rank"))
_SCORES = {
    "embedding/collapse": "aggregate",
    "embedding/centroid_similarity": "centroid_similarity",
    "embedding/effective_rank_score": "effective_rank_score",
}


@torch.no_grad()
def watch(embedding: Tensor, valid: Tensor, region: Tensor, partition: Partition) -> dict[str, Tensor]:
    """Scalars to be recorded; their mean over the ranks is that over the pictures. A collective.

    ``cosine/<ring>``: mean cosine between the pancreas and the ring, 1 where they are embedded alike.
    ``embedding/collapse``: MONAI's metric of each picture, in [0, 1], higher is worse; the larger of the other two,
    ``centroid_similarity`` (1 where the centres of pancreas and background coincide, 0 where they are opposite) and
    ``effective_rank_score`` (1 where the cells spread along one direction alone, which two tight clusters do too).

    Args:
        embedding: P×K×E unit vectors.
        valid: bool P×K, whether a slot is filled.
        region: int K, the region that each slot belongs to.
        partition: the regions.
    """
    parcels = len(partition.parcels)
    with no_autocast(embedding):
        embedding = embedding.float()
        inside = region < parcels
        heart, held = _centre(embedding, valid & inside)
        values, told = [], []
        for i in range(parcels, len(partition.names)):
            centre, filled = _centre(embedding, valid & (region == i))
            values.append((heart * centre).sum(1))
            told.append(held & filled)
        both = held & (valid & ~inside).any(1)
        values += _collapse(embedding, valid, inside, both).unbind(1)
        told += [both] * len(_SCORES)
        sums = torch.where(torch.stack(told), torch.stack(values), 0).sum(1)
        counts = sum_over_ranks(torch.stack(told).sum(1))
        names = [*(f"cosine/{ring}" for ring in partition.rings), *_SCORES]
        return dict(zip(names, (ranks() * sums / counts.clamp(min=1)).unbind(), strict=True))


def _centre(embedding: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """P×E: mean of the chosen slots, 0 where there is none; bool P: whether there is one."""
    total = (embedding * chosen[:, :, None]).sum(1)
    return total / chosen.sum(1, keepdim=True).clamp(min=1), chosen.any(1)


def _collapse(embedding: Tensor, valid: Tensor, inside: Tensor, both: Tensor) -> Tensor:
    """P×scores of the pictures that hold ``both`` sides, 0 for the others."""
    scores = embedding.new_zeros(len(embedding), len(_SCORES))
    for picture in both.nonzero()[:, 0].tolist():
        cells = embedding[picture, valid[picture]]
        if cells.isfinite().all():
            found = _COLLAPSE(embeddings=cells, labels=inside[valid[picture]])
            scores[picture] = torch.stack([score for name in _SCORES.values() if (score := found[name]) is not None])
        else:
            # What the decomposition within the metric would raise must not end a training run.
            scores[picture] = torch.nan
    return scores
