"""What a job asks of a cluster, as a typed section of an experiment; nothing of it alters what is trained."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ClusterProfile:
    """One cluster, or one way to use it. Nodes and devices come from ``trainer``.

    Attributes:
        partition: SLURM's partition; null for the cluster's default.
        account: whom the job is charged to; null for the user's default.
        time: longest run time, as SLURM writes it, such as 90 (minutes), 4:00:00 or 1-00:00:00; null for the
            partition's default. A run that needs longer is requeued and goes on.
        gpus: GPUs a node; null for trainer.devices where trainer.accelerator is gpu, else none.
        gpu_type: their type as the cluster calls it, such as a100; null for any.
        cpus: CPUs a task, which is a device; null for data.workers and one more.
        memory: memory a node, such as 64G; null for the partition's default.
        signal: seconds before the time limit at which the run is told to save; longer than a validation and a step.
        requeue: let a preempted job go on by itself.
        setup: lines of shell before the run, such as module load cuda.
        sbatch: further options of sbatch, such as --exclusive.
    """

    partition: str | None = None
    account: str | None = None
    time: str | None = None
    gpus: int | None = None
    gpu_type: str | None = None
    cpus: int | None = None
    memory: str | None = None
    signal: int = 120
    requeue: bool = True
    setup: list[str] = field(default_factory=list)
    sbatch: list[str] = field(default_factory=list)


@dataclass
class ClusterConfig:
    """How ``pansite submit`` brings a run to a SLURM cluster.

    Attributes:
        profile: which of the profiles is used; default is there without being written.
        profiles: by name.
    """

    profile: str = "default"
    profiles: dict[str, ClusterProfile] = field(default_factory=dict)

    def chosen(self) -> ClusterProfile:
        """The profile that is used."""
        return self.profiles.get(self.profile) or ClusterProfile()
