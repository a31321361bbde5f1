"""Run folders as a finished run leaves them, made up in milliseconds: their form is real, their numbers are not."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.study import settings as same
from lightning_modules.metrics.record import COLUMNS

CASES = {"source": 3, "north": 4, "west": 5, "hill": 3, "lake": 3, "east": 2, "south": 2}


def finish(experiment: Path, gain: float = 0.0, without: Sequence[tuple[str, str]] = ()) -> Path:
    """Leave what ``pansite run`` leaves.

    Args:
        experiment: its file.
        gain: added to each Dice.
        without: (site, case) that are not evaluated.

    Returns:
        the run's folder.
    """
    loaded = load_experiment(experiment)
    config = loaded.config
    id_ = same.digest(same.of_training(same.settings(config)))
    run = Path(config.run.root) / config.name / id_
    evaluation = run / "evaluation"
    (evaluation / "cases").mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(loaded.yaml)
    if not (run / "metrics.csv").exists():  # else it is trained already
        (run / "metrics.csv").write_text("step,val/dice\n1,0.5\n2,0.7\n3,\n")
    git = {"commit": "0123456789abcdef", "changed": True}
    cpu = {"count": 2, "threads": 1}
    (run / "environment.json").write_text(json.dumps({"git": git, "cpu": cpu, "packages": {"torch": "2.13.0"}}))
    rows = [row for row in _rows(config, gain) if (row["site"], row["case"]) not in without]
    with (evaluation / "per_case.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        case = evaluation / "cases" / str(row["site"]) / f"{row['case']}.json"
        case.parent.mkdir(exist_ok=True)
        digest = hashlib.sha256(f"{row['site']}{row['case']}".encode()).hexdigest()
        case.write_text(json.dumps({"digest": digest}))
    (evaluation / "summary.json").write_text(json.dumps(_summary(config, rows)))
    status = {
        "state": "done", "work": "evaluate", "step": 9, "reason": "", "pid": 1, "born": 0, "host": "h", "user": "u",
        "job": None, "time": time.time(),
    }  # fmt: skip
    (run / "status.json").write_text(json.dumps(status))
    return run


def _rows(config: ExperimentConfig, gain: float) -> list[dict[str, object]]:
    rows = []
    for site in (config.data.source.name, *config.data.held_out):
        for number in range(CASES.get(site, 3)):
            # A case is as hard as it is; each run has its own luck with it.
            hard = np.random.default_rng([number, *site.encode()]).normal(0, 0.05)
            luck = np.random.default_rng([number, config.seed, round(1e6 * gain), *site.encode()]).normal(0, 0.02)
            dice = float(np.clip(0.7 + hard + luck + gain, 0, 1))
            rows.append(dict.fromkeys(COLUMNS, 0.5) | {
                "site": site, "case": f"{site}_{number:03d}", "dice": dice, "nsd": dice**2, "hd95": 20 * (1 - dice),
                "empty_prediction": "false", "empty_reference": "false",
            })  # fmt: skip
    return rows


def _summary(config: ExperimentConfig, rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    evaluation, source = config.evaluation, config.data.source.name
    sites = {
        site: {"role": "source_test" if site == source else "held_out", "n": sum(row["site"] == site for row in rows)}
        for site in (source, *config.data.held_out)
    }
    return {
        "sites": sites,
        "inference": {
            "overlap": evaluation.overlap,
            "flips": evaluation.flips,
            "smallest_piece": evaluation.smallest_piece,
            "precision": config.trainer.precision,
        },
        "tolerance_mm": evaluation.tolerance,
        "checkpoint": {"name": f"{evaluation.checkpoint}.ckpt", "step": 9, "sha256": "ab" * 32},
    }


class Finished:
    """A process that has run the command by the time it is asked for; ``code`` other than 0 fails instead."""

    begun: list[str]

    def __init__(self, words: Sequence[str], log: IO[str], environment: Mapping[str, str], lock: IO[str]) -> None:
        self.environment = environment
        self.code = 0
        name = Path(words[1]).stem
        type(self).begun.append(name)
        if "fails" in name:
            self.code = 2
            log.write("error: it can't be done.\n")
        else:
            finish(Path(words[1]), 0.05 if name.startswith("better") else 0.0)

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, sig: int, /) -> None:
        raise AssertionError("it has ended")
