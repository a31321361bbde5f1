"""Where a run lives: ``<run.root>/<name>/<id>/``, and what stands where inside."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from datamodules.atomic import write_json, write_text
from datamodules.errors import UsageError
from datamodules.json_files import known_json, read_json

JOB_FILE = "PANSITE_JOB_FILE"
"""Names, in a job that `pansite submit` wrote, the job's file."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved experiment."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``last.ckpt`` and ``best.ckpt``."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Metrics of every logged step."""
        return self.path / "metrics.csv"

    @property
    def panels(self) -> Path:
        """Folder of the panels: what training batches looked like, by step."""
        return self.path / "panels"

    @property
    def nonfinite(self) -> Path:
        """Folder of the batches that stopped the run with a loss or gradient that was not finite."""
        return self.path / "nonfinite"

    @property
    def split(self) -> Path:
        """The source's train, validation and test cases."""
        return self.path / "split.json"

    @property
    def evaluation(self) -> Path:
        """Folder of per-case results, their summary and the report."""
        return self.path / "evaluation"

    @property
    def predictions(self) -> Path:
        """Folder of predictions as NIfTI."""
        return self.path / "predictions"

    @property
    def data_card(self) -> Path:
        """The data card of the sites that the run was evaluated on."""
        return self.evaluation / "data_card.json"

    @property
    def inexact(self) -> Path:
        """What the run says of itself once it went on inexactly."""
        return self.path / "inexact.json"

    @property
    def overlap(self) -> Path:
        """What the run says of itself once it was tested on scans of its source (``data.overlap=allow``)."""
        return self.path / "overlap.json"

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The run at ``path``.

        Raises:
            UsageError: there is no run there.
        """
        run = cls(path)
        if not run.config.is_file():
            raise UsageError(
                f"{path}: not a run folder (no config.yaml); give a folder that `pansite fit` or `pansite run` made."
            )
        return run

    def describe(self, config_yaml: str, overrides: list[str], split: dict[str, list[str]]) -> None:
        """Write what the run is: its resolved experiment, the overrides given, the split and the environment."""
        from experiments.environment import environment

        self.write_config(config_yaml)
        write_text(self.path / "overrides.txt", "".join(f"{override}\n" for override in overrides))
        write_json(self.split, split)
        write_json(self.path / "environment.json", environment())
        if (job := os.environ.get(JOB_FILE)) and Path(job).is_file():
            write_text(self.path / "job.sbatch", Path(job).read_text(encoding="utf-8"))

    def write_config(self, config_yaml: str) -> None:
        """Replace ``config.yaml``: the same run, perhaps with more held-out sites."""
        write_text(self.config, config_yaml)

    def wandb_id(self) -> str:
        """The run's id in Weights & Biases: chosen once, before any Trainer exists, and kept."""
        file = self.path / "wandb" / "id"
        if not file.is_file():
            write_text(file, f"{self.path.name}-{uuid4().hex[:8]}")
        return file.read_text(encoding="utf-8").strip()

    def take_wandb_id(self, name: str) -> bool:
        """Take over an id that W&B has chosen, a sweep's.

        Returns:
            whether it is new to the run.
        """
        file = self.path / "wandb" / "id"
        before = file.read_text(encoding="utf-8").strip() if file.is_file() else None
        if before != name:
            write_text(file, name)
        return before != name

    def read_split(self) -> dict[str, list[str]]:
        """The saved split: case ids by ``train``, ``validation`` and ``test``.

        Raises:
            UsageError: the file is missing or damaged.
        """
        return read_json(self.split, dict, "restore it from a copy, or fit the experiment afresh")

    def read_excluded(self) -> dict[str, dict[str, str]]:
        """The cases that the evaluation left out and why, by site.

        Raises:
            UsageError: the file is missing or damaged.
        """
        return read_json(self.evaluation / "excluded.json", dict, "evaluate the run again")

    def read_leaks(self) -> list[str]:
        """What the run was ever tested on although it is its source's; empty where there is no such file.

        Raises:
            UsageError: the file is damaged.
        """
        way_out = "restore it: it says which scans of its source the run was tested on"
        return read_json(self.overlap, list, way_out) if self.overlap.is_file() else []

    def is_outside(self) -> bool:
        """Whether it holds the evaluation of predictions that another tool made."""
        return "predictions_of" in known_json(self.evaluation / "summary.json")

    def set_aside(self) -> Path | None:
        """Move what stands here to a free name beside it, so that a fresh run loses nothing.

        Returns:
            where it went, or None where nothing stood.
        """
        if not self.path.exists():
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.replaced-{number}")).exists():
            number += 1
        self.path.rename(aside)
        return aside

    def sweep_fit(self) -> None:
        """Remove what a kill left half-written in fitting; the run is locked, hence nobody is writing there."""
        self._sweep(".*.part", "checkpoints/.*.part", "panels/**/.*.part", "wandb/.*.part")

    def sweep_evaluation(self) -> None:
        """The same for evaluating."""
        self._sweep("evaluation/**/.*.part", "predictions/**/.*.part")

    def _sweep(self, *patterns: str) -> None:
        for pattern in patterns:
            for part in self.path.glob(pattern):
                part.unlink(missing_ok=True)

    @contextmanager
    def locked(self, work: str = "working on") -> Iterator[None]:
        """Hold the run for one process, as long as the process lives.

        Args:
            work: what is held: ``"working on"`` it, which is fitting, or ``"evaluating"`` it.

        Raises:
            UsageError: another process holds it.
        """
        # Beside the folder: it stays where it is when the folder is set aside.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = f".{self.path.name}.lock" if work == "working on" else f".{self.path.name}.{work}.lock"
        with self.path.with_name(name).open("w") as lock:
            try:
                # Not flock: forked workers of a killed process would inherit it, and hold it for seconds more.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise UsageError(
                    f"{self.path}: another process is {work} this run; wait for it, "
                    "or give the experiment another name or seed."
                ) from error
            yield
