"""What of a run was logged offline and is not in W&B yet, and the command that sends it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from experiments.run_folder import RunFolder


def unsent(run: RunFolder) -> list[Path]:
    """The folders of the run's offline pieces that have not been sent, one a command, in the order of their times.

    There is no resuming offline: each command makes a piece. Each knows the run's id and that it resumes it, so that
    one sent after the other adds to it.
    """
    if not (run.path / "wandb" / "id").is_file():
        return []
    name = run.wandb_id()
    found = (run.path / "wandb").glob(f"offline-run-*-{name}")
    # The folder's name begins with the time at which it was made.
    log = f"run-{name}.wandb"
    return sorted(path for path in found if (path / log).is_file() and not (path / f"{log}.synced").exists())


def sync_command(pieces: Sequence[Path]) -> str:
    """The command line that sends pieces in their order."""
    return shlex.join(["wandb", "sync", *map(str, pieces)])
