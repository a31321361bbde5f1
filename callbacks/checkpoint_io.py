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
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO
from lightning_utilities.core.rank_zero import rank_zero_warn

from datamodules.atomic import atomic_file
from datamodules.errors import UsageError

Checkpoint = dict[str, Any]


def previous(path: Path) -> Path:
    """Where the checkpoint is kept that stood at ``path`` before: ``last.ckpt`` → ``last.prev.ckpt``."""
    return path.with_name(f"{path.stem}.prev{path.suffix}")


def read_checkpoint(path: Path, map_location: Any = "cpu") -> Checkpoint:
    """Load a checkpoint without executing anything it holds.

    Raises:
        UsageError: the file is missing, damaged, or not a checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such checkpoint.") from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
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
                rank_zero_warn(f"{error} It is passed over.")
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
    if not path.is_file() and not previous(path).is_file():
        raise UsageError(f"{folder.parent}: no {name}.ckpt yet; train the run first with `pansite fit`.")
    found = latest(folder, name)
    if found is None:
        raise UsageError(f"{path}: can't be loaded, and there is no earlier one; train the run again with --fresh.")
    return found


class KillSafeCheckpointIO(CheckpointIO):
    """Lightning's way to write and read checkpoints, safe against kills, crashes and full disks.

    Attributes:
        failure: why the last checkpoint could not be written; None where it was. The run goes on with a warning: a
            full disk costs the new checkpoint, never an old one.
    """

    def __init__(self) -> None:
        self.failure: OSError | None = None

    def save_checkpoint(
        self, checkpoint: Checkpoint, path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint to ``path`` and keep the one that stood there; a fault of the disk is only told."""
        target = Path(path)
        # In memory first: what can't be pickled is our fault and raised, what can't be written is the disk's.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        self.failure = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(target)
            with atomic_file(target, "wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
                self._keep(target)
        except OSError as error:
            self.failure = error
            rank_zero_warn(
                f"{target}: the checkpoint of step {checkpoint.get('global_step')} could not be written ({error});"
                " the one before it is kept. Free some space: a kill now would cost the steps since then."
            )

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
                f" of step {checkpoint.get('global_step')}."
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
