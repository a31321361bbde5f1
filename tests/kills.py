"""Runs that are killed and continued: in which settings, at which moments, and whether they end with the same bits.

    python -m tests.kills             # what the tests run: settings that cover each other in pairs
    python -m tests.kills --full      # every combination of settings, with another seed by --seed 1

Each setting is run once undisturbed. Beside it, the same command is killed (SIGKILL, the whole process group) at one
moment after the other, each in the life that follows, and then left to end. Torch takes seconds to import, so each
life is a fork of this process, which has imported everything; two ranks are two forks with the variables that a
launcher would set.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from itertools import combinations, product
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
import torch

Settings = Mapping[str, int]
"""Which of its two options each factor takes, 0 or 1."""
Death = Callable[[], None]
"""Called in a process that is about to run the command: arranges that it dies."""

STEPS = 12
BASE = (
    f"trainer.max_steps={STEPS}", "trainer.validate_every=4", "trainer.checkpoint_every=3", "trainer.log_every=2",
    "data.batch_size=4", "data.spacing=[9,9,9]", "evaluation.predictions=true",
)  # fmt: skip
FLAT = ("model.schedule.warmup=0", "model.contrastive.ramp=0", "model.restoration.ramp=0")
RISING = ("model.schedule.warmup=0.5", "model.contrastive.ramp=0.9", "model.restoration.ramp=0.9")
FACTORS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "workers": (["data.workers=0"], ["data.workers=2"]),
    "precision": (["trainer.precision=32"], ["trainer.precision=bf16-mixed"]),
    "accumulation": (["trainer.accumulate=1"], ["trainer.accumulate=2"]),
    "average": (["trainer.ema=null"], ["trainer.ema=0.9"]),
    "ramps": (FLAT, RISING),
    "ranks": (["trainer.devices=1"], ["trainer.devices=2"]),
}
MOMENTS = ("best", "clock", "start", "step", "save", "validation", "evaluation", "report")
OF_THE_FIRST_RANK = ("best", "start", "report")
"""Files that the first rank alone writes: a second one adds nothing but time."""
MODULE = "lightning_modules.dual_ssl:DualSSLModule"


def pairwise(factors: Sequence[str] = tuple(FACTORS)) -> list[Settings]:
    """Six settings in which any two factors take all four combinations of their options.

    Each factor takes its second option in another three of the five settings after the first: two such triples share
    a setting and differ in others (Katona 1973; Kleitman & Spencer 1973). Up to ten factors.
    """
    triples = list(combinations(range(1, 6), 3))[: len(factors)]
    return [{name: int(row in triple) for name, triple in zip(factors, triples, strict=True)} for row in range(6)]


def everything(factors: Sequence[str] = tuple(FACTORS)) -> list[Settings]:
    """Every combination of the factors' options."""
    return [dict(zip(factors, options, strict=True)) for options in product((0, 1), repeat=len(factors))]


def words(settings: Settings) -> list[str]:
    """Settings as overrides of the tiny experiment."""
    return [*BASE, *(word for name, option in settings.items() for word in FACTORS[name][option])]


def deaths(settings: Settings, draw: random.Random, seconds: float) -> dict[str, Death]:
    """One death at each kind of moment, in an order in which each is reached.

    Args:
        settings: of the run.
        draw: which of the moments of a kind.
        seconds: that the undisturbed run's training took.
    """
    per_step, ranks = 1 + settings["accumulation"], 1 + settings["ranks"]

    def sometimes() -> bool:
        return draw.random() < 0.5

    def replaced(*names: str) -> Death:
        return at_call("os:replace", file=draw.choice(names), after=sometimes())

    saves = [
        half_written("last.ckpt"),
        at_call("callbacks.checkpoint_io:KillSafeCheckpointIO._keep"),
        replaced("last.ckpt"),
        replaced("metrics.csv"),
    ]
    case = draw.choice([f"{MODULE}.test_step", "callbacks.per_case:write_native", "callbacks.per_case:write_row"])
    found = {
        "best": replaced("best.ckpt"),
        "clock": by_the_clock(draw.uniform(0, seconds / 2)),
        "start": replaced("config.yaml", "split.json", "environment.json"),
        "step": at_call(f"{MODULE}.training_step", draw.randint(1, 2 * per_step), after=sometimes()),
        "save": draw.choice(saves),
        "validation": at_call(f"{MODULE}.validation_step", draw.randint(1, 2 // ranks), after=sometimes()),
        "evaluation": at_call(case, draw.randint(1, 2), after=sometimes()),
        "report": replaced("per_case.csv", "summary.json", "report.html"),
    }
    return {name: death for name, death in found.items() if ranks == 1 or name not in OF_THE_FIRST_RANK}


def at_call(function: str, call: int = 1, file: str = "", after: bool = False) -> Death:
    """Die at a call of a function.

    Args:
        function: as ``module:name``.
        call: which of its calls in the life of the process, from 1.
        file: only calls that bring a file of this name into its place are counted.
        after: die when the call has returned, not before it.
    """

    def arrange() -> None:
        module, _, path = function.partition(":")
        *owners, name = path.split(".")
        owner: Any = import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        original = owner.__dict__[name]
        called = original.__func__ if isinstance(original, staticmethod) else original
        calls = 0

        def counted(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            counts = not file or Path(arguments[1]).name == file
            calls += counts
            if counts and calls == call and not after:
                die()
            result = called(*arguments, **keywords)
            if counts and calls == call:
                die()
            return result

        setattr(owner, name, staticmethod(counted) if isinstance(original, staticmethod) else counted)

    return arrange


def half_written(name: str) -> Death:
    """Die when half of a checkpoint's bytes are written."""

    class Half:
        def __init__(self, file: IO[Any]) -> None:
            self.file = file

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            die()

    def arrange() -> None:
        import callbacks.checkpoint_io as module

        original: Callable[..., AbstractContextManager[IO[Any]]] = module.__dict__["atomic_file"]

        @contextmanager
        def halved(path: Path, mode: str = "w") -> Iterator[Any]:
            with original(path, mode) as file:
                yield Half(file) if path.name == name else file

        module.__dict__["atomic_file"] = halved

    return arrange


def by_the_clock(seconds: float) -> Death:
    """Die so long after the first training step has begun, whatever is being done then."""

    def arrange() -> None:
        owner: Any = getattr(import_module(MODULE.partition(":")[0]), MODULE.partition(":")[2])
        original = owner.training_step
        started = False

        def timed(*arguments: Any) -> Any:
            nonlocal started
            if not started and os.fork() == 0:
                time.sleep(seconds)
                die()
            started = True
            return original(*arguments)

        owner.training_step = timed

    return arrange


def die() -> None:
    """End this process, its workers and the other rank as the kernel's out-of-memory killer would."""
    os.killpg(0, signal.SIGKILL)


def live(command: Sequence[str], log: Path, ranks: int = 1, death: Death | None = None) -> int:
    """Run the command in a fork of this process, imports done.

    Args:
        command: words of the command line.
        log: file for all that it says; replaced.
        ranks: processes that share the work, as after ``torchrun``.
        death: how it dies; None leaves it to end.

    Returns:
        its exit code, or minus the signal that ended it.
    """
    import experiments.flow
    import experiments.report.page  # noqa: F401 - what the command imports late, so that no fork need do it

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            code = _ranks(command, port, ranks, death) if ranks > 1 else _command(command, death)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _ranks(command: Sequence[str], port: int, ranks: int, death: Death | None) -> int:
    from lightning_utilities.core.rank_zero import rank_zero_only

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "NODE_RANK": "0"}
    others: list[int] = []
    rank = 0
    for number in range(1, ranks):
        if (other := os.fork()) == 0:
            rank = number
            break
        others.append(other)
    os.environ["LOCAL_RANK"] = str(rank)
    setattr(rank_zero_only, "rank", rank)  # noqa: B010 - typed without it; it was set when Lightning was imported
    code = 70
    try:
        code = _command(command, death)
    finally:
        if rank:
            os._exit(code)
    return next(filter(None, [code, *(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) for other in others)]), 0)


def without_pages() -> None:
    """A word in the place of each report, in this process: drawing it makes up a third of so small a run."""
    from experiments.report import page

    page.render = lambda *_: "a page"


def _command(command: Sequence[str], death: Death | None) -> int:
    from experiments.cli import main

    torch.set_num_threads(1)
    without_pages()
    if death is not None:
        death()
    try:
        return main(command)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def suffer(experiment: Path, settings: Settings, home: Path, draw: random.Random) -> tuple[list[str], list[str]]:
    """Run settings undisturbed and killed at every kind of moment.

    Args:
        experiment: the tiny experiment.
        settings: of the run.
        home: an empty folder.
        draw: decides on the moments.

    Returns:
        the moments at which the one was killed, and what differs between the two in the end.
    """
    command, ranks = ["run", str(experiment), *words(settings)], 1 + settings["ranks"]
    log = home / "log.txt"

    def life(name: str, death: Death | None = None) -> int:
        code = live([*command, f"run.root={home / name}"], log, ranks, death)
        if code != (0 if death is None else -signal.SIGKILL):
            raise AssertionError(f"{settings}: ended with {code}, having said:\n{log.read_text()}")
        return code

    life("calm")
    calm = only_run(home / "calm")
    begin, end = ((calm / name).stat().st_mtime for name in ("environment.json", "checkpoints/last.ckpt"))
    arranged = deaths(settings, draw, end - begin)
    for moment, death in arranged.items():
        life("killed", death)
        if moment == "clock" and _step(home / "killed") > STEPS // 2:
            # A faster life than the undisturbed one: too little is left for the moments that follow.
            shutil.rmtree(home / "killed")
    life("killed")
    assert list(calm.glob("predictions/*/*.nii.gz")), "there are predictions to compare"
    return list(arranged), differences(calm, only_run(home / "killed"))


def _step(root: Path) -> int:
    from callbacks.checkpoint_io import latest, read_checkpoint

    path = latest(only_run(root) / "checkpoints")
    return 0 if path is None else int(read_checkpoint(path)["global_step"])


def only_run(root: Path, name: str = "tiny") -> Path:
    """The folder of the one run below a root."""
    (run,) = (path for path in (root / name).iterdir() if path.is_dir() and ".replaced-" not in path.name)
    return run


def differences(a: Path, b: Path) -> list[str]:
    """What two runs' folders don't have in common: weights, optimiser, average, metrics, cases, predictions."""
    found = [] if a.name == b.name else ["id"]
    for name in ("last", "best"):
        one, other = (torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for run in (a, b))
        keys = {**one, **other}
        found += [f"{name}.ckpt: {key}" for key in keys if not same(one.get(key), other.get(key))]
    for name in ("metrics.csv", "split.json", "evaluation/per_case.csv"):
        if _bytes(a / name) != _bytes(b / name):
            found.append(name)
    predictions = [
        {path.relative_to(run): _voxels(path) for path in sorted(run.glob("predictions/**/*.nii.gz"))} for run in (a, b)
    ]
    if predictions[0] != predictions[1]:
        found.append("predictions")
    return found + [f"{path}: left behind" for path in b.rglob("*.part")]


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _voxels(path: Path) -> tuple[bytes, bytes]:
    """Voxels and grid; the header names the checkpoint's file, whose bytes pickle does not promise."""
    image = nib.load(path)
    return np.asanyarray(image.dataobj).tobytes(), image.affine.tobytes()


def same(a: object, b: object) -> bool:
    """Whether two nested containers hold the same, tensors to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def main() -> int:
    """Kill and compare; 1 where anything differs."""
    from tests.conftest import TINY

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every combination of settings")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    os.environ |= {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    bad, kills, start = 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        experiment = home / "tiny.yaml"
        experiment.write_text(TINY.format(base="phantom_quick.yaml", home=home, phantoms=home / "phantoms"))
        for number, settings in enumerate(everything() if options.full else pairwise()):
            place = home / f"{number}"
            place.mkdir()
            killed, differ = suffer(experiment, settings, place, random.Random(f"{options.seed} {number}"))
            shutil.rmtree(place)
            kills, bad = kills + len(killed), bad + bool(differ)
            taken = " ".join(word for name, option in settings.items() for word in FACTORS[name][option])
            print(f"{'; '.join(differ) or 'equal'} after {len(killed)} kills: {taken}", flush=True)
    print(f"{kills} kills in {time.monotonic() - start:.0f} s; {bad or 'no'} settings differ")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
