"""How long ``pansite fit`` takes to its first step on a prepared store, beside ``nnUNetv2_train``; and ``--help``.

    python -m tests.benchmarks.start

From the start of the process, imports included, to where the first step begins with its batch at hand. The same cases,
patch, batch and widths, two loader processes each; both are started anew each time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.made import SHAPE, SMALL, write_ct, write_experiment
from tests.benchmarks.results import Line, Scale, at_most, present
from tests.benchmarks.turns import HOUSE, SIDES, Ratio, Side

TITLE = "Start"
SPACING = (0.8, 0.8, 1.5)
NAMES = ["a", "b", "c", "d"]
HELP_SECONDS = 0.5


def measure(scale: Scale) -> list[Line]:
    """Seconds to the first step, and to the help."""
    folder = scale.scratch
    warm_up, rounds = (0, 1) if scale.quick else (1, 6)
    for seed, name in enumerate(NAMES):
        write_ct(folder, name, SMALL if scale.quick else SHAPE, SPACING, seed)
    experiment = write_experiment(folder, NAMES, SPACING, scale.quick)
    command = [sys.executable, "-m", "experiments"]
    subprocess.run([*command, "prepare", str(experiment)], check=True, env=_environment(scale), stdout=sys.stderr)
    told: dict[str, Any] = {"experiment": str(experiment), "scratch": str(folder), "hour": str(folder / "hour")}
    sides: dict[str, Path | None] = {"start_ours": Path(sys.executable)}
    if scale.nnunet:
        sides["start_nnunet"] = scale.peers()
        patch, filters = (48, [4, 8, 16]) if scale.quick else (96, [32, 64, 128, 256, 320])
        wanted = {"patch": [patch] * 3, "filters": filters, "spacing": SPACING, "raw": str(folder), "names": NAMES}
        with Side("nnunet_prepared", {**told, **wanted}, scale.peers(), scale.threads):
            pass
    seconds: dict[str, list[float]] = {name: [] for name in (*sides, "help")}
    for _ in range(warm_up + rounds):
        for name, python in sides.items():
            seconds[name].append(_to_first_step(name, python, told, scale))
        begin = time.perf_counter()
        subprocess.run([*command, "--help"], check=True, env=_environment(scale), stdout=subprocess.DEVNULL)
        seconds["help"].append(time.perf_counter() - begin)
    ours, helped = seconds["start_ours"][warm_up:], median(seconds["help"][warm_up:])
    lines = [
        Line("`pansite --help`", "", f"< {HELP_SECONDS} s", f"{helped:.2f} s", helped < HELP_SECONDS),
    ]
    if scale.nnunet:
        theirs = seconds["start_nnunet"][warm_up:]
        absolute = f"{median(ours):.1f} s, {median(theirs):.1f} s"
        lines.insert(0, at_most("to the first step", "nnUNetv2_train", Ratio.of(ours, theirs), 0.7, absolute))
    else:
        lines.insert(0, Line("to the first step", "none", "", f"{median(ours):.1f} s", None))
    return lines


def _to_first_step(name: str, python: Path | None, told: dict[str, Any], scale: Scale) -> float:
    hour = Path(told["hour"])
    hour.unlink(missing_ok=True)
    said = scale.scratch / "said"
    with said.open("wb") as file:
        begin = time.time()
        process = subprocess.Popen(
            [str(python), str(SIDES / f"{name}.py"), json.dumps(told)],
            env=_environment(scale),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        process.wait()
        if not hour.is_file():
            raise RuntimeError(f"{name} ended before its first step: {said.read_text(errors='replace')[-3000:]}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its loaders
    return float(hour.read_text(encoding="utf-8")) - begin


def _environment(scale: Scale) -> dict[str, str]:
    own = {"PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": str(scale.threads), "nnUNet_n_proc_DA": "2"}
    return {**os.environ, **own}


if __name__ == "__main__":
    present("start", TITLE, __doc__, measure)
