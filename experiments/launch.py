"""How this process was started, read off the environment: alone, by Lightning, by ``srun`` or by ``torchrun``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from datamodules.errors import UsageError
from experiments.config import TrainerConfig

if TYPE_CHECKING:
    from lightning_fabric.plugins import ClusterEnvironment


def torchrun() -> bool:
    """Whether ``torchrun`` has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def srun() -> bool:
    """Whether this process is a task of a job step: started by ``srun``, other than to give a person a shell."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_STEP_ID" in os.environ and not interactive and not torchrun()


def first() -> bool:
    """Whether no other process of the run comes before this one.

    Lightning's own guess knows nothing of nodes on which the command was given by hand, each with its ``NODE_RANK``.
    """
    environment = os.environ
    if "RANK" in environment:
        return environment["RANK"] == "0"
    here = environment.get("LOCAL_RANK") or (environment.get("SLURM_PROCID", "0") if srun() else "0")
    return here == "0" and environment.get("NODE_RANK", "0") == "0"


def position() -> tuple[int, int]:
    """This process' number among those that ``srun`` or ``torchrun`` has started, and how many they are."""
    if torchrun():
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if srun():
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"])
    return 0, 1


def local_rank() -> int:
    """This process' number among those on its machine."""
    return int(os.environ.get("LOCAL_RANK") or (os.environ.get("SLURM_LOCALID", "0") if srun() else "0"))


def check(settings: TrainerConfig) -> None:
    """Refuse a number of processes that is not the number of devices: each would train the run for itself, or wait.

    Raises:
        UsageError: it is another one.
    """
    wanted = settings.devices * settings.nodes
    started = position()[1]
    if torchrun() or srun():
        by = "torchrun" if torchrun() else "srun"
        if started != wanted:
            raise UsageError(
                f"trainer.devices: {settings.devices} on {settings.nodes} node{'s' * (settings.nodes > 1)} make "
                f"{wanted} processes, but {by} has started {started}; give both the same number."
            )
        if wanted > 1 and not torchrun():
            _check_job(settings)
    elif settings.nodes > 1 and "SLURM_NTASKS" in os.environ:
        raise UsageError(
            f"trainer.nodes: {settings.nodes} nodes need a process each, which srun starts in a job; put srun before "
            "the command, or use `pansite submit`."
        )


def _check_job(settings: TrainerConfig) -> None:
    """Refuse in a sentence what Lightning refuses in a traceback: it reads of a job what it should read of a step."""
    tasks, nodes = os.environ.get("SLURM_NTASKS_PER_NODE"), os.environ.get("SLURM_NNODES")
    if tasks is None and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        raise UsageError(
            f"srun: --ntasks alone does not tell how many processes a node has; give "
            f"--ntasks-per-node={settings.devices} instead, to sbatch or srun."
        )
    for option, given, wanted in (("ntasks-per-node", tasks, settings.devices), ("nodes", nodes, settings.nodes)):
        if given is not None and given.isdecimal() and int(given) != wanted:
            raise UsageError(
                f"srun: --{option}={given} does not go with trainer.devices={settings.devices} and "
                f"trainer.nodes={settings.nodes}; give both the same number."
            )


def cluster_environments() -> list[ClusterEnvironment]:
    """For Lightning in a job of SLURM's; elsewhere nothing, it finds out by itself.

    In a step it leaves the requeue to us. In the shell of a job it starts the ranks of this node itself, where by
    itself it would wait for srun's.
    """
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    if srun():
        return [SLURMEnvironment(auto_requeue=False)]
    return [LightningEnvironment()] if "SLURM_NTASKS" in os.environ and not torchrun() else []


def restarts() -> int:
    """How often SLURM has started this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))
