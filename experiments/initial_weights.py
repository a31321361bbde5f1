"""``model.init``: the weights of another run to start from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callbacks.checkpoint_io import latest, read_checkpoint
from datamodules.errors import UsageError
from experiments.locate import find_run
from experiments.run_folder import RunFolder
from lightning_modules.dual_ssl import DualSSLModule
from lightning_modules.stored import misfit, writer


def find(init: str) -> Path:
    """The checkpoint that ``model.init`` means: a file, or a run's best, else its last that loads.

    Args:
        init: a ``.ckpt`` file, a run's folder, or the folder above where it holds one run.

    Raises:
        UsageError: there is none, or more than one run to choose from.
    """
    path = Path(init).expanduser()
    if path.is_file():
        return path
    try:
        run = RunFolder(find_run(init))
    except UsageError as error:
        raise UsageError(f"model.init: {error} Train the run first whose weights this one is to start from.") from error
    found = latest(run.checkpoints, "best") or latest(run.checkpoints)
    if found is None:
        raise UsageError(f"model.init: {run.path} has no checkpoint; train that run first, or give a .ckpt file.")
    return found


def digest(checkpoint: Path) -> str:
    """SHA-256 of the network's weights in a checkpoint: part of a run's identity, wherever the file lies.

    What else the checkpoint holds (its callbacks, the version that wrote it) is not taken and does not count.
    """
    whole = hashlib.sha256()
    for name, value in sorted(_network(read_checkpoint(checkpoint)).items()):
        whole.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        whole.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def described(init: str) -> str:
    """The checkpoint that ``model.init`` means, and how long it was trained: another run may not be at its end yet.

    Raises:
        UsageError: there is none.
    """
    checkpoint = find(init)
    return f"{checkpoint} (step {read_checkpoint(checkpoint, mmap=True).get('global_step', 0)})"


def load(module: DualSSLModule, checkpoint: Path) -> None:
    """Give a module the network of ``checkpoint``; its heads, optimiser and steps start anew.

    Raises:
        UsageError: the checkpoint is of another network.
    """
    content = read_checkpoint(checkpoint)
    weights = _network(content)
    if reason := misfit(weights, module.network.state_dict()):
        raise UsageError(f"model.init: {checkpoint} does not fit model.network: {reason} ({writer(content)}).")
    module.network.load_state_dict(weights)


def _network(content: Mapping[str, Any]) -> dict[str, Tensor]:
    prefix = "network."
    state: dict[str, Tensor] = content["state_dict"]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
