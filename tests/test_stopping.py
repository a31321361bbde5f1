"""Real signals to real runs: each stops in good order, and the same command ends with the bits of an untouched run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import launched
from tests.conftest import Tiny
from tests.kills import differences, live, only_run, without_pages

Command = Callable[..., tuple[int, str, str]]
MODULE = "lightning_modules.dual_ssl:DualSSLModule"
HOUSE = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_run_stopped_in_every_stage_ends_with_the_same_bits(tiny: Tiny, tmp_path: Path) -> None:
    """Six steps, validated every 3, saved every 2; four cases to evaluate."""
    words = ["run", str(tiny.file), "trainer.log_every=2"]
    assert in_a_fork([*words, f"run.root={tmp_path / 'calm'}"])[0] == 0
    stopped = [*words, f"run.root={tmp_path / 'stopped'}"]
    for function, call, number, code, told in (
        (f"{MODULE}.configure_optimizers", 1, signal.SIGTERM, -signal.SIGTERM, ""),
        (
            f"{MODULE}.training_step",
            1,
            signal.SIGUSR1,
            75,
            "preempted after step 1; give the same command again to go on\n",
        ),
        (
            f"{MODULE}.training_step",
            2,
            signal.SIGTERM,
            143,
            "stopped after step 3 by SIGTERM; the same command goes on\n",
        ),
        (f"{MODULE}.validation_step", 1, signal.SIGUSR1, 75, "preempted after step 6; "),
        (f"{MODULE}.test_step", 2, signal.SIGTERM, 143, "stopped by SIGTERM; the same command goes on\n"),
        (f"{MODULE}.test_step", 1, signal.SIGUSR1, 75, "preempted; give the same command again to go on\n"),
    ):
        found, err = in_a_fork(stopped, send_at(function, call, number))
        assert found == code, err
        assert err.startswith(told), err
    done = only_run(tmp_path / "stopped") / "evaluation" / "cases"
    assert len(list(done.rglob("*.json"))) == 3
    assert not (done.parent / "summary.json").exists()
    assert in_a_fork(stopped)[0] == 0
    assert differences(only_run(tmp_path / "calm"), only_run(tmp_path / "stopped")) == []


@pytest.mark.slow
def test_ctrl_c_reaches_the_workers_too_and_costs_nothing_and_a_second_one_ends_hard(
    tiny: Tiny, tmp_path: Path
) -> None:
    words = ["fit", str(tiny.file), "data.workers=2"]
    assert in_a_fork([*words, f"run.root={tmp_path / 'calm'}"])[0] == 0
    stopped = [*words, f"run.root={tmp_path / 'stopped'}"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 75)):
        found, err = in_a_fork(stopped, send_at(f"{MODULE}.training_step", 1, number, to_all=True))
        assert found == code, err
        assert "worker" not in err
        assert err.count("once more") == (number == signal.SIGINT), err
    twice = send_at(f"{MODULE}.training_step", 1, signal.SIGINT, times=2)
    assert in_a_fork(stopped, twice)[0] == -signal.SIGINT
    assert in_a_fork(stopped)[0] == 0
    calm, ended = (torch.load(only_run(tmp_path / name) / "checkpoints" / "last.ckpt") for name in ("calm", "stopped"))
    assert all(torch.equal(calm["state_dict"][name], ended["state_dict"][name]) for name in calm["state_dict"])


def test_a_notice_does_not_wait_for_a_whole_site_and_no_case_is_blamed_for_it(tiny: Tiny, tmp_path: Path) -> None:
    words = ["prepare", str(tiny.file), f"data.store={tmp_path}"]
    code, err = in_a_fork(words, send_at("datamodules.prepare_case:read_case", 3, signal.SIGUSR1))
    assert code == 75
    assert err.endswith("preempted; give the same command again to go on\n")
    (source,) = tmp_path.glob("source-*")
    assert len([*source.glob("*/*/record.json")]) == 2
    assert in_a_fork(words)[0] == 0
    assert len([*source.glob("*/*/record.json")]) == 6


def test_a_requeued_job_does_not_start_anew_again(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=1", "--fresh")
    assert pansite(*words)[0] == 0
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    code, out, _ = pansite(*words)
    assert code == 0
    assert "this job has been requeued" in out
    assert "trained already, all 1 steps" in out
    only_run(tmp_path)


@pytest.mark.slow
def test_two_ranks_stop_together_when_one_of_them_gets_the_signal(tiny: Tiny, tmp_path: Path) -> None:
    """Untouched by torchrun, stopped under Lightning's own launcher, then as forks: the same YAML and the same bits."""
    words = ["run", str(tiny.file), "trainer.devices=2"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "experiments"]
    calm = subprocess.run(
        [sys.executable, *torchrun, *words, f"run.root={tmp_path / 'calm'}"],
        env={**os.environ, "PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert calm.returncode == 0, calm.stderr
    assert calm.stdout.count("report: ") == 1

    def signal_one(function: str, call: int) -> None:
        if os.environ.get("LOCAL_RANK") == "1":
            send_at(f"{MODULE}.{function}", call, signal.SIGUSR1)()

    words, log = [*words, f"run.root={tmp_path / 'stopped'}"], tmp_path / "log"
    code, _, err = launched.run(words, tmp_path, prepare=partial(signal_one, "training_step", 2))
    assert code == 75, err
    assert err.startswith("preempted after step 2; ")
    assert live(words, log, ranks=2, death=partial(signal_one, "test_step", 1)) == 75, log.read_text()
    assert not (only_run(tmp_path / "stopped") / "evaluation" / "summary.json").exists()
    assert live(words, log, ranks=2) == 0, log.read_text()
    assert differences(only_run(tmp_path / "calm"), only_run(tmp_path / "stopped")) == []


def send_at(function: str, call: int, number: int, to_all: bool = False, times: int = 1) -> Callable[[], None]:
    """What makes a process send itself, or its whole group, a signal at a call of a function."""

    def patch() -> None:
        module, _, path = function.partition(":")
        *owners, name = path.split(".")
        owner: Any = import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        original, calls = getattr(owner, name), 0

        def counted(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                for _ in range(times):
                    (os.killpg if to_all else os.kill)(os.getpgid(0) if to_all else os.getpid(), number)
            return original(*arguments, **keywords)

        setattr(owner, name, counted)

    return patch


def in_a_fork(words: list[str], prepare: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Run the command in a fork of this process, imports done, in a process group of its own.

    Returns:
        its exit code, or minus the signal that ended it, and what it said on stderr.
    """
    import experiments.flow  # noqa: F401 - so that the fork need not import it
    from experiments.cli import main

    torch.set_num_threads(1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        code = 70
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has it ignored
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(writing, 2)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            os.close(reading)
            os.close(writing)
            without_pages()
            prepare()
            code = main(words)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said
