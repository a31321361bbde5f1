"""A run in Weights & Biases: always the same one, begun under the id in the run folder, and never in the run's way.

``metrics.csv`` is the truth; W&B shows it. What goes wrong with W&B costs a sentence: a missing login or a network that
is down at the start turns an online run into an offline one, a network that is down at the end leaves the data on disk.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import yaml
from pytorch_lightning.loggers import WandbLogger

from callbacks.metrics_file import read_metrics
from callbacks.requests import Stopped
from experiments.config import ExperimentConfig
from experiments.console import first_rank, say
from experiments.run_folder import RunFolder
from experiments.sweep import agent
from experiments.wandb_pieces import sync_command, unsent

INIT_SECONDS = 30.0
"""For the server to answer when a run begins."""
FINISH_SECONDS = 120.0
"""For what is left to be sent when a command ends."""


def begin(config: ExperimentConfig, run: RunFolder) -> Any | None:
    """The W&B run of a run folder: the one that is open, else resumed or begun under the folder's id.

    On the first rank alone: each rank that began it would make a run of its own. Where an agent of a sweep has started
    this process, the run is the sweep's own, and online: of another one the sweep would learn nothing.

    Returns:
        wandb's run; None where ``logging.wandb`` is ``disabled``, on other ranks, and where W&B does not work at all.
    """
    if (config.logging.wandb == "disabled" and agent.run_id() is None) or not first_rank():
        return None
    import wandb

    name = agent.run_id()
    new = name is not None and run.take_wandb_id(name)
    if wandb.run is not None:
        if wandb.run.id == run.wandb_id():
            return wandb.run
        with suppress(Exception):  # of a run that can't be closed any more
            wandb.run.finish()
    mode: Literal["offline", "online"] = "offline" if config.logging.wandb == "offline" else "online"
    if name is not None:
        said = "" if config.logging.wandb == "online" else f", although logging.wandb is {config.logging.wandb}"
        say(f"W&B: run {name} of the sweep {os.environ['WANDB_SWEEP_ID']}, logged online{said}")
        mode = "online"
    if mode == "online" and (reason := _reason_not_to_go_online()):
        say(f"W&B: {reason}; this run is logged offline.")
        mode = "offline"
    if mode == "online":
        try:
            experiment = _init(config, run, mode)
            if new:
                _tell_what_was(experiment, run)
            return experiment
        except Exception as error:  # whatever it is, a run of days does not end for it
            say(f"W&B: can't be reached ({_words(error)}); this run is logged offline.")
            wandb.teardown()  # else it holds that the run is in use
    try:
        return _init(config, run, "offline")
    except Exception as error:
        say(f"W&B: can't be used ({_words(error)}); metrics.csv has all that it would show.")
        return None


def logger(config: ExperimentConfig, run: RunFolder) -> WandbLogger | None:
    """Lightning's logger of the W&B run; None without one."""
    experiment = begin(config, run)
    if experiment is None:
        return None
    return WandbLogger(experiment=experiment, id=experiment.id, project=config.logging.project, save_dir=run.path)


@contextmanager
def ended_by_errors() -> Iterator[None]:
    """Close the W&B run as failed where an error leaves the block: the process may live on, with runs of its own.

    Not where a signal has asked for the end, and somebody waits with a clock: W&B closes the run when the process ends.
    """
    try:
        yield
    except Stopped:
        raise
    except BaseException:
        if (open_run := _open_run()) is not None:
            with suppress(Exception):
                open_run.finish(exit_code=1)
        raise


def finish(run: RunFolder) -> None:
    """Close the W&B run, if one is open, and say how to send what is still on this disk alone."""
    if (open_run := _open_run()) is not None:
        folder = Path(open_run.dir).resolve().parent
        try:
            open_run.finish()
        except Exception as error:  # a TimeoutError among others
            command = shlex.join(["wandb", "sync", "--include-online", str(folder)])
            say(f"W&B: not all was sent ({_words(error)}); send it later: {command}")
    tell_pieces(run)


def tell_pieces(run: RunFolder) -> None:
    """Say how to send what is not in W&B yet."""
    if waiting := unsent(run):
        many = f"in {len(waiting)} pieces, " if len(waiting) > 1 else ""
        say(f"W&B was offline; to send this run, {many}in this order: {sync_command(waiting)}")


def _open_run() -> Any | None:
    """The run that is open; none where nothing has imported W&B, which takes half a second."""
    return getattr(sys.modules.get("wandb"), "run", None)


def _init(config: ExperimentConfig, run: RunFolder, mode: Literal["online", "offline"]) -> Any:
    import wandb

    # In a sweep W&B has chosen both, and would complain of ours.
    chosen = agent.run_id() is not None
    experiment = wandb.init(
        mode=mode,
        id=None if chosen else run.wandb_id(),
        project=None if chosen else config.logging.project,
        resume="allow",
        name=f"{config.name}/{run.path.name}",
        dir=str(run.path),
        config=_config(run),
        allow_val_change=True,
        settings=wandb.Settings(
            silent=True, init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS, finish_timeout_raises=True
        ),
    )
    # W&B's own count of rows begins anew in each offline piece.
    experiment.define_metric("trainer/global_step")
    experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return experiment


def _tell_what_was(experiment: Any, run: RunFolder) -> None:
    """Log what was measured before the run had this id: in W&B it is another run, which is to have the whole of it."""
    if not run.metrics.is_file():
        return
    for row in read_metrics(run.metrics):
        # Lightning counts the steps of its loggers from 0.
        experiment.log({"trainer/global_step": int(row.pop("step")) - 1, **row})


def _config(run: RunFolder) -> dict[str, Any]:
    """The resolved experiment, and beside it what else a result depends on."""
    config: dict[str, Any] = yaml.safe_load(run.config.read_text(encoding="utf-8")) or {}
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    return {**config, "environment": environment}


def _reason_not_to_go_online() -> str | None:
    """What W&B's environment says against it; a missing or malformed key, found without asking for one."""
    import wandb

    if (mode := os.environ.get("WANDB_MODE", "online")) in ("offline", "dryrun", "disabled"):
        return f"WANDB_MODE is {mode}"
    try:
        wandb.setup(settings=wandb.Settings(silent=True))
        logged_in = wandb.login(prompt=False, verify=False)
    except Exception as error:  # such as a key that is too short
        return f"the login can't be used ({_words(error)})"
    return None if logged_in else "there is no login (run `wandb login` or set WANDB_API_KEY)"


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
