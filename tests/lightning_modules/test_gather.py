"""Several gloo ranks against one process that holds the joined batch."""

from __future__ import annotations

import multiprocessing
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.distributed.nn.functional
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed import _functional_collectives as collectives
from torch.nn.parallel import DistributedDataParallel

from datamodules.batch import OUTSIDE_AXIS, PatchBatch
from lightning_modules.config import ContrastiveConfig
from lightning_modules.contrastive import ContrastiveResult, ContrastiveTerm
from lightning_modules.gather import gather, sum_over_ranks

MODES = ("grad", "detached", "none")
FORMS: dict[str, dict[str, Any]] = {
    "asymmetric": {},
    "symmetric": {"structure": "axis", "rings": "one"},
    "cohesion_separation": {"structure": "none", "views": "clean", "sampling": "uniform", "separation": 0.5},
}
"""Each form of the loss, with regions of its own; the last one can leave all anchors in one region of one image."""
# One server imports torch once; every rank is a fork of it.
multiprocessing.get_context("forkserver").set_forkserver_preload([ContrastiveTerm.__module__, "torch.distributed"])


class Model(nn.Module):
    """A convolution in the place of the backbone, and the term on the features of two views."""

    def __init__(self, mode: str, form: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(5, 1, 2, 2, 2, generator=generator))
        config = ContrastiveConfig(gather=mode, form=form, slots=(8, 24, 16, 8), dimension=16, **FORMS[form])  # type: ignore[arg-type]
        self.term = ContrastiveTerm(config, 5, (3.0, 3.0, 3.0), seed=0)
        self.recorded: dict[str, Tensor] = {}

    def forward(self, batch: PatchBatch, uncertainty: Tensor) -> Tensor:
        views = (batch.image, batch.image.flip(1) ** 2)
        features = [nn.functional.conv3d(view, self.weight, stride=2) for view in views]
        result: ContrastiveResult = self.term(features, batch, uncertainty)
        self.recorded = result.parts | result.watch()
        return result.loss


def patches(numbers: list[int], empty: tuple[int, ...]) -> tuple[PatchBatch, Tensor]:
    """Patches by number, those in ``empty`` without pancreas; and their uncertainty."""
    place = torch.arange(16) - 7.5
    grid = torch.stack(torch.meshgrid(place, place, place, indexing="ij"))
    images, distances, axes, doubts = [], [], [], []
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        images.append(torch.rand(1, 16, 16, 16, generator=generator))
        doubts.append(torch.rand(1, 16, 16, 16, generator=generator))
        distance = (grid.norm(dim=0) - 5 - number % 3)[None] * 3
        distances.append(torch.full_like(distance, 60.0) if number in empty else distance)
        axes.append(torch.where(distances[-1] < 0, (grid[:1] + 8) / 16, OUTSIDE_AXIS))
    image, distance, axis, doubt = (torch.stack(m).double() for m in (images, distances, axes, doubts))
    key = torch.tensor([[0, n] for n in numbers])
    return PatchBatch(image, (distance < 0).double(), distance, axis, key, [str(n) for n in numbers]), doubt


class Step(NamedTuple):
    """What a step finds; under a process group through DDP, and scalars as a mean over the ranks logs them."""

    loss: Tensor
    gradients: list[Tensor]
    recorded: dict[str, Tensor]


def step(mode: str, numbers: list[int], empty: tuple[int, ...], form: str = "asymmetric") -> Step:
    model = Model(mode, form).double()
    # Kept by name: the wrapper averages the gradients as long as it lives.
    called = DistributedDataParallel(model) if dist.is_initialized() else model
    loss = called(*patches(numbers, empty))
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) == 5
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    recorded = {name: sum_over_ranks(value) / ranks for name, value in model.recorded.items()}
    return Step(sum_over_ranks(loss) / ranks, gradients, recorded)


def share(numbers: list[int], rank: int, ranks: int) -> list[int]:
    return numbers[rank * len(numbers) // ranks : (rank + 1) * len(numbers) // ranks]


def work(rank: int, ranks: int, folder: str, numbers: list[int], empty: tuple[int, ...], fallback: bool) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    if fallback and hasattr(collectives, "all_gather_single_autograd"):
        del collectives.all_gather_single_autograd
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    found: dict[str, Any] = {
        f"{form} {mode}": tuple(step(mode, share(numbers, rank, ranks), empty, form))
        for form in FORMS
        for mode in MODES
    }
    found["nothing"] = tuple(step("grad", share(numbers, rank, ranks), tuple(numbers)))
    rows = torch.full((2, 3), float(rank), requires_grad=True)
    for mode in MODES:
        gathered = gather(rows, mode)
        weight = (rank + 1) * (1 + torch.arange(len(gathered)))[:, None]
        found[f"rows {mode}"] = gathered.detach(), torch.autograd.grad((gathered * weight).sum(), rows)[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.distributed.nn.functional.all_gather(torch.ones(1))
    found["what Lightning's all_gather calls warns"] = any("deprecated" in str(w.message) for w in caught)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def spread(folder: Path, ranks: int, *arguments: object) -> list[dict[str, Any]]:
    mp.start_processes(work, (ranks, str(folder), *arguments), nprocs=ranks, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]


@pytest.mark.parametrize(
    ("ranks", "numbers", "empty", "fallback"),
    [(2, [0, 1, 2, 3], (), False), (3, [0, 1, 2], (1,), False), (2, [0, 1], (0,), True)],
    ids=["two ranks", "three ranks, one without pancreas", "an older torch, the last rank alone with pancreas"],
)
def test_ranks_together_are_one_process_with_the_joined_batch(
    tmp_path: Path, ranks: int, numbers: list[int], empty: tuple[int, ...], fallback: bool
) -> None:
    found = spread(tmp_path, ranks, numbers, empty, fallback)
    for form in FORMS:
        loss, gradients, recorded = step("grad", numbers, empty, form)
        assert loss.item() > 0
        assert {"cosine/near", "cosine/background"} & set(recorded)
        for rank in found:
            value, theirs, record = rank[f"{form} grad"]
            assert value.item() == pytest.approx(loss.item(), rel=1e-10)
            for ours, expected in zip(theirs, gradients, strict=True):
                assert (ours - expected).norm() <= 1e-6 * expected.norm()
            assert {k: v.item() for k, v in record.items()} == pytest.approx(
                {k: v.item() for k, v in recorded.items()}, rel=1e-5
            )

            value, theirs, _ = rank[f"{form} detached"]
            assert value.item() == pytest.approx(loss.item(), rel=1e-10)
            assert any((a - b).norm() > 1e-3 * b.norm() for a, b in zip(theirs, gradients, strict=True))

            assert rank[f"{form} none"][0].item() != pytest.approx(loss.item(), rel=1e-6)

    for rank in found:
        value, theirs, _ = rank["nothing"]
        assert value.item() == 0
        assert all((g == 0).all() for g in theirs)
        assert rank["what Lightning's all_gather calls warns"] or torch.__version__ < "2.13"

    total = ranks * (ranks + 1) / 2
    for number, rank in enumerate(found):
        everything = torch.arange(ranks).repeat_interleave(2)[:, None].expand(-1, 3)
        position = torch.tensor([1 + 2 * number, 2 + 2 * number])[:, None].expand(-1, 3)
        rows, gradient = rank["rows grad"]
        assert torch.equal(rows, everything.float())
        assert torch.equal(gradient, total * position.float())
        rows, gradient = rank["rows detached"]
        assert torch.equal(rows, everything.float())
        assert torch.equal(gradient, (number + 1) * position.float())
        assert torch.equal(rank["rows none"][0], torch.full((2, 3), float(number)))


def test_without_a_process_group_nothing_is_gathered() -> None:
    rows = torch.rand(2, 3)
    assert all(gather(rows, mode) is rows for mode in MODES)  # type: ignore[arg-type]
    assert torch.equal(sum_over_ranks(rows), rows)
