"""``model.init``: the weights of another run to start from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from callbacks.checkpoint_io import read_checkpoint
from datamodules.errors import UsageError
from lightning_modules.dual_ssl import DualSSLModule


def find(init: str) -> Path:
    """The checkpoint that ``model.init`` means: a file, or the best (else the last) checkpoint of a run folder.

    Raises:
        UsageError: there is none.
    """
    path = Path(init).expanduser()
    candidates = [path] if path.is_file() else [path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UsageError(f"model.init: no checkpoint at {path}; give a run folder that has been trained or a .ckpt file.")


def digest(checkpoint: Path) -> str:
    """SHA-256 of the checkpoint's bytes: part of a run's identity, wherever the file lies."""
    with checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(module: DualSSLModule, checkpoint: Path) -> None:
    """Give a module the network of ``checkpoint``; its heads, optimiser and steps start anew.

    Raises:
        UsageError: the checkpoint is of another network.
    """
    prefix = "network."
    weights = {
        name.removeprefix(prefix): value
        for name, value in read_checkpoint(checkpoint)["state_dict"].items()
        if name.startswith(prefix)
    }
    if reason := misfit(weights, module.network.state_dict()):
        raise UsageError(f"model.init: {checkpoint} does not fit model.network: {reason}.")
    module.network.load_state_dict(weights)


def misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """How two sets of weights differ in names or shapes, told by the first that does; None where they don't."""
    names = [name for name in {**wanted, **found} if _shape(found, name) != _shape(wanted, name)]
    if not names:
        return None
    first = names[0]
    there, here = (_shape(weights, first) or "not there" for weights in (found, wanted))
    return f"{len(names)} weights differ, as {first}, which is {there} instead of {here}"


def _shape(weights: Mapping[str, Tensor], name: str) -> str | None:
    return "×".join(map(str, weights[name].shape)) or "a number" if name in weights else None
