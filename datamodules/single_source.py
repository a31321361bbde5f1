"""The source site for training and validation. It cannot name a held-out site."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import blosc2  # noqa: F401 - what reads the patches: here, and not once in every loader process that is forked
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.augmentation.config import AUGMENTATIONS
from datamodules.augmentation.pipeline import Augmentation
from datamodules.batch import PatchBatch, VolumeBatch
from datamodules.config import SourceData
from datamodules.errors import Notice, UsageError
from datamodules.patches import PatchDataset, RawPatch, RawPatchBatch, collate
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site
from datamodules.randomness import torch_generator
from datamodules.sampling import PositionSampler, Share, Stream
from datamodules.seal import patients
from datamodules.split import Split, split_cases
from datamodules.store import StoredCase
from datamodules.volumes import volume_loader


class ResumableLoader(DataLoader[RawPatch]):
    """A loader that already starts where training stopped.

    There is no state to keep: the sampler starts from Lightning's own count of finished batches, which is in every
    checkpoint. These two methods are how Lightning is told that resuming in mid-epoch is safe.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position follows from Lightning's count."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class SingleSourceDataModule(pl.LightningDataModule):
    """Patches of the source's training cases, and its whole validation volumes.

    A run is one long epoch: the ``Trainer`` is given ``max_steps``, and a resumed run goes on with the very next
    batch. The training stream is the same for any number of workers, ranks and accumulated batches.

    Args:
        data: the source and what is made of it; of a ``DataConfig``, its ``training()`` part.
        seed: of every random draw.
        accumulate: the trainer's ``accumulate_grad_batches``: each batch holds this part of ``data.batch_size``.

    Attributes:
        preparation: what was found at the source; set by :meth:`setup`, as the following are.
        spacing: mm along D, H, W of the training grid.
        split: train, validation and test cases.
        cases: the training cases.

    Raises:
        UsageError: ``data`` names held-out sites.
    """

    preparation: Preparation
    spacing: tuple[float, float, float]
    split: Split
    cases: list[StoredCase]

    def __init__(self, data: SourceData, seed: int = 0, accumulate: int = 1) -> None:
        super().__init__()
        if hasattr(data, "held_out"):
            raise UsageError(
                "SingleSourceDataModule trains on the source alone and takes no held-out sites: "
                "give it `data.training()`."
            )
        self.data = data
        self.seed = seed
        self.accumulate = accumulate

    def prepare_data(self) -> None:
        """Fill the store with what is missing in it."""
        self._prepare(processes=max(1, self.data.workers), progress=True)

    def setup(self, stage: str | None = None) -> None:
        """Open the prepared cases, split them and check that the patches fit; on every rank."""
        if hasattr(self, "preparation"):
            return
        preparation = self._prepare(processes=1, progress=False)
        stored = {case.record.case: case for case in preparation.kept}
        self.split = split_cases(patients(preparation), self.data.split)
        self.cases = [stored[case] for case in self.split.train]
        self._validation = [stored[case] for case in self.split.validation]
        self.spacing = preparation.spacing
        self.stream = Stream(self.seed, len(self.cases), self.data.batch_size, self.data.sampling.foreground)
        self.augmentation: Augmentation = AUGMENTATIONS.build(
            self.data.augmentation,
            seed=self.seed,
            spacing=self.spacing,
            window=self.data.window,
            patch_size=self.data.patch_size,
        )
        self.preparation = preparation
        self._tell_of_padding()

    def train_dataloader(self) -> ResumableLoader:
        """This rank's batches, from the first one that is not yet trained on to the run's last.

        Augmented by the processes that read them where training is on the CPU, whose time they would take else; raw
        patches for a GPU, which augments faster than they do. Without a trainer (to look at the data): one epoch.

        Raises:
            UsageError: the global batch can't be shared out, or the trainer has no ``max_steps``.
        """
        share = self._share()
        batches, finished, device = -(-len(self.cases) // share.local), 0, "cpu"
        if self.trainer is not None:
            batches, finished = self._batches(self.trainer), _finished_batches(self.trainer)
            device = self.trainer.strategy.root_device.type
        workers = self.data.workers
        return ResumableLoader(
            PatchDataset(self.cases, self.stream, self.data.patch_size, self.augmentation),
            batch_size=share.local,
            sampler=PositionSampler(share, batches, finished),
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=self.augmentation.of_patches if device == "cpu" else collate,
            pin_memory=device == "cuda",
            worker_init_fn=_leave_signals_to_the_run,
            generator=torch_generator(self.seed, "loader"),  # else torch draws from the global state
        )

    def val_dataloader(self) -> DataLoader[VolumeBatch]:
        """This rank's share of the validation volumes, unpadded; a rank beyond them repeats another one's."""
        return volume_loader(self._validation, self.data.window, *self._rank(), idle=False)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment raw patches on the device they have come to; anything else passes."""
        if isinstance(batch, RawPatchBatch):
            batch = self.augmentation(batch)
        if isinstance(batch, PatchBatch) and self.trainer is not None:
            self._check_position(batch, self.trainer)
        return batch

    def _prepare(self, processes: int, progress: bool) -> Preparation:
        data = self.data
        store = Path(data.store).expanduser()
        return prepare_site(data.source, data.spacing, data.structure, store, processes=processes, progress=progress)

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _share(self) -> Share:
        rank, ranks = self._rank()
        return Share(self.data.batch_size, self.accumulate, rank, ranks)

    def _batches(self, trainer: pl.Trainer) -> int:
        if trainer.max_steps < 1:
            raise UsageError("a run is as long as its steps: give the Trainer max_steps of at least 1")
        if trainer.accumulate_grad_batches != self.accumulate:
            raise UsageError(
                f"the Trainer accumulates {trainer.accumulate_grad_batches} batches and the data module "
                f"{self.accumulate}: give SingleSourceDataModule(accumulate=…) the Trainer's number"
            )
        return trainer.max_steps * self.accumulate

    def _check_position(self, batch: PatchBatch, trainer: pl.Trainer) -> None:
        number = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        place = self.stream.place(self._share().positions(number)[0])
        key = tuple(batch.key[0].tolist())
        if key != (place.epoch, place.index):
            raise AssertionError(
                f"batch {number} of the run should begin with sample {(place.epoch, place.index)}, not "
                f"{key}: the training loader was made before the checkpoint's progress was restored"
            )

    def _tell_of_padding(self) -> None:
        patch = self.data.patch_size
        small = [c for c in self.cases if any(n < p for n, p in zip(c.record.shape, patch, strict=True))]
        if small:
            rank_zero_warn(
                f"{self.data.source.name}: {len(small)} of {len(self.cases)} training volumes are smaller than "
                f"the patch of {'×'.join(map(str, patch))} voxels (data.patch_size) and are padded with air.",
                category=Notice,
            )


def _leave_signals_to_the_run(worker: int) -> None:
    # Ctrl-C and schedulers signal all processes of a run: it could not finish its step without its patches. Workers
    # end when they are told to, or when the run is gone.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _finished_batches(trainer: pl.Trainer) -> int:
    # "processed" counts what has gone through the optimiser, whichever hook the checkpoint was saved in: "ready"
    # is one ahead in the middle of a batch, "completed" one behind in on_train_batch_end.
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return int(progress.processed)  # type: ignore[attr-defined]  # Lightning declares the tracker's base class
