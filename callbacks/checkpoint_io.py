"""Checkpoints that a kill, a crash or a full disk can't take away.

Lightning stages a checkpoint in ``$TMPDIR`` and moves it: across file systems that is a copy, and a kill in the
middle leaves half a file where a good one stood. Here a checkpoint is written beside its place, synced and
renamed, and the one before it is kept as ``<name>.prev.ckpt``.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO
from lightning_utilities.core.rank_zero import rank_zero_warn

from datamodules.atomic import atomic_file
from datamodules.errors import Notice, UsageError

Checkpoint = dict[str, Any]


def previous(path: Path) -> Path:
    """Where the checkpoint is kept that stood at ``path`` before: ``last.ckpt`` → ``last.prev.ckpt``."""
    return path.with_name(f"{path.stem}.prev{path.suffix}")


def read_checkpoint(path: Path, map_location: Any = "cpu", mmap: bool = False) -> Checkpoint:
    """Load a checkpoint without executing anything it holds.

    Args:
        path: the file.
        map_location: where its tensors go.
        mmap: read tensors when they are looked at: for what else it holds, whatever its size.

    Raises:
        UsageError: the file is missing, damaged, or not a checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such checkpoint.") from error
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise UsageError(f"{path}: can't be loaded as a checkpoint ({reason}).") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UsageError(f"{path}: is not a checkpoint of a model (it has no state_dict).")
    return checkpoint


def latest(folder: Path, name: str = "last") -> Path | None:
    """The newest loadable one of ``<name>.ckpt`` and its predecessor, by global step; damaged ones are said aloud.

    Args:
        folder: of the checkpoints.
        name: ``"last"`` or ``"best"``.

    Returns:
        Its path, or None where there is none that loads.
    """
    steps: dict[Path, int] = {}
    newest = folder / f"{name}.ckpt"
    for path in (newest, previous(newest)):
        if path.is_file():
            try:
                steps[path] = int(read_checkpoint(path).get("global_step", 0))
            except UsageError as error:
                rank_zero_warn(f"{error} It is passed over.", category=Notice)
    # The newest one comes first, so that it wins where both are of the same step.
    return max(steps, key=lambda path: steps[path]) if steps else None


def chosen(folder: Path, name: str) -> Path:
    """The checkpoint to evaluate or to predict with: ``<name>.ckpt``, or its predecessor where it is damaged.

    Args:
        folder: of the run's checkpoints.
        name: ``"best"`` or ``"last"``.

    Raises:
        UsageError: there is none, or none that loads.
    """
    path = folder / f"{name}.ckpt"
    found = latest(folder, name)
    if found is not None:
        return found
    missing = not path.is_file() and not previous(path).is_file()
    reason = f"no {name}.ckpt yet" if missing else f"{name}.ckpt can't be loaded, and there is no earlier one"
    if name == "best" and (last := latest(folder)) is not None:
        step = read_checkpoint(last, mmap=True)["global_step"]
        raise UsageError(f"{folder.parent}: {reason}; {last.name} of step {step} is there: add checkpoint=last.")
    way_out = "train the run first with `pansite fit`" if missing else "train the run again with --fresh"
    raise UsageError(f"{folder.parent}: {reason}; {way_out}.")


@dataclass(frozen=True)
class Unwritten:
    """A checkpoint that could not be written.

    Attributes:
        error: why.
        path: where it was to stand.
        step: of the training.
        data: its bytes.
    """

    error: OSError
    path: Path
    step: int
    data: bytes


class KillSafeCheckpointIO(CheckpointIO):
    """Lightning's way to write and read checkpoints, safe against kills, crashes and full disks.

    Attributes:
        failure: the newest checkpoint where it could not be written; None where it was. The run goes on with a
            warning: a full disk costs the new checkpoint, never an old one.
    """

    def __init__(self) -> None:
        self.failure: Unwritten | None = None
        self._checked = False

    def save_checkpoint(
        self, checkpoint: Checkpoint, path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint to ``path`` and keep the one that stood there; a fault of the disk is only told.

        Raises:
            TypeError: it holds something that could not be loaded again (told at the first one, not when the run is
                to go on).
        """
        # In memory first: what can't be pickled is our fault and raised, what can't be written is the disk's.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        if not self._checked:
            _check_loadable(buffer)
            self._checked = True
        self.write(Path(path), int(checkpoint.get("global_step", 0)), buffer.getvalue())

    def write(self, target: Path, step: int, data: bytes) -> bool:
        """Put a checkpoint's bytes in their place.

        Args:
            target: the file.
            step: of the training, for the warning.
            data: the bytes.

        Returns:
            whether they stand there; :attr:`failure` holds them where they don't.
        """
        self.failure = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(target)
            with atomic_file(target, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                self._keep(target)
        except OSError as error:
            self.failure = Unwritten(error, target, step, data)
            rank_zero_warn(
                f"{target}: the checkpoint of step {step} could not be written ({error});"
                " the one before it is kept. Free some space: a kill now would cost the steps since then.",
                category=Notice,
            )
        return self.failure is None

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> Checkpoint:
        """Read ``path``, or its predecessor where it is damaged; always with ``weights_only=True``.

        Raises:
            UsageError: neither can be loaded.
        """
        target = Path(path)
        place = map_location or "cpu"
        try:
            return read_checkpoint(target, place)
        except UsageError as error:
            if not previous(target).is_file():
                raise
            checkpoint = read_checkpoint(previous(target), place)
            rank_zero_warn(
                f"{error} Going on from the one before it, {previous(target).name},"
                f" of step {checkpoint.get('global_step')}.",
                category=Notice,
            )
            return checkpoint

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove ``path`` and its predecessor."""
        Path(path).unlink(missing_ok=True)
        previous(Path(path)).unlink(missing_ok=True)

    @staticmethod
    def _keep(target: Path) -> None:
        """Let the checkpoint at ``target`` be its predecessor too, unless it is cut short (torch writes zips)."""
        if not zipfile.is_zipfile(target):
            return
        link = target.with_name(f".{target.name}.link.part")
        try:
            os.link(target, link)
        except OSError:  # a file system without hard links
            target.replace(previous(target))
            return
        try:
            link.replace(previous(target))
        finally:
            link.unlink(missing_ok=True)  # renaming a link to a link of the same file leaves both

    @staticmethod
    def _sweep(target: Path) -> None:
        """Remove what a kill in the middle of writing left."""
        for part in target.parent.glob(f".{target.name}.*.part"):
            part.unlink(missing_ok=True)


def _check_loadable(buffer: io.BytesIO) -> None:
    buffer.seek(0)
    try:
        torch.load(buffer, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise TypeError(
            f"a checkpoint holds plain containers, numbers, strings and tensors alone, and this one could not be "
            f"loaded again: {reason}"
        ) from error
