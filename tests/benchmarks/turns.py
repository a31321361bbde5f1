"""Sides of a comparison, each a process of its own, that work by turns: A, B, A, B, … on the same machine's minutes.

While one works the others are stopped, loader processes and all, so that nobody works ahead. A ratio is the median over
the pairs that follow one another, with the 95 % interval that bootstrapping the pairs gives.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

SIDES = Path(__file__).parent / "sides"
HOUSE = Path(__file__).resolve().parents[2]


class Side:
    """A process that does one side's rounds.

    Args:
        name: a file of ``sides/`` without its ending.
        told: its arguments.
        python: its interpreter; by default the one that this runs in.
        threads: of each of its processes.
        variables: of its environment, beside the usual.

    Raises:
        RuntimeError: it ended before it was ready, or in a round; with the end of what it said.
    """

    def __init__(
        self,
        name: str,
        told: Mapping[str, Any],
        python: Path | None = None,
        threads: int = 1,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self._process = subprocess.Popen(
            [str(python or sys.executable), str(SIDES / f"{name}.py"), json.dumps(dict(told))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(HOUSE), **limits, **(variables or {})},
        )
        self._answer()
        self._signal(signal.SIGSTOP)

    def turn(self) -> dict[str, Any]:
        """A round: ``seconds``, what was ``found``, and ``peak`` bytes of the process so far."""
        self._signal(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._answer()
        self._signal(signal.SIGSTOP)
        return answer

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            assert stream is not None
            stream.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            self._said.seek(0)
            raise RuntimeError(f"{self.name} ended: {self._said.read().decode(errors='replace')[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _signal(self, number: int) -> None:
        # The whole group, which the child leads: its loaders too.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@dataclass(frozen=True)
class Turns:
    """What the rounds of several sides took.

    Attributes:
        seconds: of each round, by side.
        peaks: bytes, the most that a side's process has held.
        found: what the last round of each returned.
    """

    seconds: dict[str, list[float]]
    peaks: dict[str, int]
    found: dict[str, Any]


def by_turns(sides: Sequence[Side], rounds: int, warm_up: int = 1) -> Turns:
    """Let each side do a round, and again.

    Args:
        sides: that are ready.
        rounds: that count, of each.
        warm_up: rounds before these.
    """
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    answers: dict[str, dict[str, Any]] = {}
    for turn in range(warm_up + rounds):
        for side in sides:
            answers[side.name] = side.turn()
            if turn >= warm_up:
                seconds[side.name].append(answers[side.name]["seconds"])
    return Turns(
        seconds,
        {name: answer["peak"] for name, answer in answers.items()},
        {name: answer["found"] for name, answer in answers.items()},
    )


@dataclass(frozen=True)
class Ratio:
    """A median of paired ratios, and 95 % of the medians of resampled pairs."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        """Ours by theirs, pair by pair."""
        pairs = np.asarray(ours, dtype=np.float64) / np.asarray(theirs, dtype=np.float64)
        draw = np.random.default_rng(0).integers(len(pairs), size=(2000, len(pairs)))
        low, high = np.quantile(np.median(pairs[draw], axis=1), (0.025, 0.975))
        return cls(float(np.median(pairs)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.middle:.2f}× ({self.low:.2f} to {self.high:.2f})"
