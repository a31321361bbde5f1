"""The same bits need the same ranks, threads, device, kernels and PyTorch: noted in every checkpoint, and kept.

Floating-point sums depend on their order, and each of these sets another one. Batch, accumulation and precision do
too, but they are part of what the run is: changed, they make another run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning.callbacks import Callback

from callbacks.inexact import Conditions, Entry, changes, difference, recorded, sentence
from datamodules.atomic import write_json
from datamodules.errors import AgreedError


class ConditionsGuard(Callback):
    """Lets a run go on only under the conditions of its checkpoint, unless it is told to go on all the same.

    Args:
        flags: settings that alter bits but not the run, such as ``channels_last``; plain values.
        record: ``inexact.json`` of the run: there as long as what is trained is not exact.
        inexact: go on all the same, and say so for ever.
        tell: prints a sentence, once for all ranks.
    """

    def __init__(
        self,
        flags: Mapping[str, Any],
        record: Path,
        inexact: bool = False,
        tell: Callable[[str], None] = rank_zero_info,
    ) -> None:
        self.flags = dict(flags)
        self.record = record
        self.inexact = inexact
        self.tell = tell
        self.conditions: Conditions = {}
        self.entries: list[Entry] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take down the conditions, once all ranks are there."""
        if stage == "fit":
            self.conditions = {**conditions(trainer), **self.flags}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Compare them with those of the checkpoint; all ranks come to the same end.

        Raises:
            AgreedError: they differ.
        """
        if trainer.state.fn != "fit":
            return
        self.entries = recorded(checkpoint)
        changed = changed_since(checkpoint, self.conditions)
        if changed and not self.inexact:
            refuse(str(trainer.ckpt_path), checkpoint, changed)
        if changed:
            step = int(checkpoint["global_step"])
            self.entries.append({"step": step, "date": date.today().isoformat(), "changes": changed})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what is not exact, and let the run's folder say it."""
        if trainer.is_global_zero and self.entries:
            write_json(self.record, self.entries)
        elif trainer.is_global_zero:
            # Left by a life that was given up before it saved anything.
            self.record.unlink(missing_ok=True)
        if said := sentence(self.entries):
            self.tell(said)

    def state_dict(self) -> dict[str, Any]:
        """Plain containers, for the checkpoint."""
        return {"conditions": dict(self.conditions), "inexact": self.entries}


def changed_since(checkpoint: Mapping[str, Any], now: Conditions) -> dict[str, list[Any]]:
    """What differs from the conditions that a checkpoint notes; nothing where it notes none."""
    state = checkpoint.get("callbacks", {}).get(ConditionsGuard.__qualname__, {})
    return changes(state.get("conditions", {}), now)


def refuse(path: str, checkpoint: Mapping[str, Any], changed: Mapping[str, Sequence[Any]]) -> NoReturn:
    """Say what differs.

    Raises:
        AgreedError: always.
    """
    raise AgreedError(
        f"{path}: the same bits need the same conditions, and from step {checkpoint['global_step']} on they would "
        f"differ: {difference(changed)}; go on as before, or all the same with --inexact."
    )


def conditions(trainer: pl.Trainer) -> dict[str, Any]:
    """What a trainer's bits depend on beside its settings; a collective of all ranks."""
    return {
        "ranks": trainer.world_size,
        "threads": _of_all_ranks(torch.get_num_threads()),
        "device": _of_all_ranks(_kind(trainer.strategy.root_device)),
        "torch": str(torch.__version__),
    }


def _kind(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # Its vector instructions choose the kernels.
    return f"{device.type} ({torch.backends.cpu.get_cpu_capability()})"


def _of_all_ranks(value: Any) -> Any:
    """The one value of all ranks, or a list with each rank's."""
    values = [value]
    if dist.is_available() and dist.is_initialized():
        values = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
    return value if all(other == value for other in values) else values
