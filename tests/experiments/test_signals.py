"""What a signal does to the command, and how the command then leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callbacks.requests import Request, Stopped
from experiments import ending
from experiments.ending import leave
from experiments.signals import REQUESTS, SIGNALS, Recorder

HOUSE = Path(__file__).parents[2]
SCHEDULER = ("SLURM_", "RANK", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No scheduler has started these tests, and none of their handlers stays."""
    for name in [name for name in os.environ if name.startswith(SCHEDULER)]:
        monkeypatch.delenv(name)
    handlers = {number: signal.getsignal(number) for number in REQUESTS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_notice_of_a_scheduler_is_recorded_and_ends_at_once_what_loses_nothing_by_it() -> None:
    recorder = Recorder()
    with recorder.installed():
        send(signal.SIGUSR1)
        assert recorder.requested() == Request.PREEMPT
        with pytest.raises(Stopped), recorder.at_once():
            pytest.fail("a signal that came before the block ends it")
    with recorder.installed():
        assert recorder.requested() == 0
        with pytest.raises(Stopped) as caught, recorder.at_once():
            send(signal.SIGUSR1)
        assert caught.value.request is Request.PREEMPT
        send(signal.SIGUSR1)  # and after it is recorded again


@pytest.fixture
def foreground() -> Iterator[None]:
    """Ctrl-C as in a terminal: what a shell runs in its background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_at_once_but_is_deferred_where_asked_and_a_second_one_ends_hard(foreground: None) -> None:
    recorder = Recorder()
    with recorder.installed():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert recorder.requested() == 0
        recorder.defer()
        send(signal.SIGINT)
        assert recorder.requested() == Request.INTERRUPT
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_sigterm_ends_the_process_unless_deferred_and_is_graver_than_a_notice() -> None:
    def in_a_fork(work: Callable[[], int]) -> int:
        child = os.fork()
        if child == 0:
            os._exit(work())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def terminated() -> int:
        with SIGNALS.installed():
            send(signal.SIGTERM)
            return 1

    def deferred() -> int:
        with SIGNALS.installed(), SIGNALS.released():
            SIGNALS.defer()
            send(signal.SIGTERM)
            send(signal.SIGUSR1)
            return 10 + SIGNALS.requested()

    def released() -> int:
        with SIGNALS.installed():
            with SIGNALS.released():
                SIGNALS.defer()
            send(signal.SIGTERM)
            return 1

    assert in_a_fork(terminated) == -signal.SIGTERM
    assert in_a_fork(deferred) == 10 + Request.TERMINATE
    assert in_a_fork(released) == -signal.SIGTERM


def test_handlers_are_put_back_and_an_ignored_ctrl_c_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = [signal.getsignal(number) for number in REQUESTS]
    with Recorder().installed():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGUSR1) not in before
    assert [signal.getsignal(number) for number in REQUESTS] == before


def test_another_thread_than_the_main_one_installs_nothing() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    thread = threading.Thread(target=SIGNALS.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_notice_during_imports_is_remembered() -> None:
    """Real process: the signal comes where torch is about to be imported."""
    code = (
        "import os, signal, sys\n"
        "class Notice:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch' and Notice in map(type, sys.meta_path):\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGUSR1)\n"
        "sys.meta_path.insert(0, Notice())\n"
        "sys.argv = ['pansite', 'prepare', 'phantom_quick', 'data.store=nowhere']\n"
        "from experiments.__main__ import main\n"
        "sys.exit(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 75, done.stderr
    assert done.stderr == "preempted; give the same command again to go on\n"
    assert not Path("nowhere").exists()


def test_without_a_scheduler_the_words_and_codes_are_those_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(Stopped(Request.PREEMPT, step=7)) == 75
    assert capsys.readouterr().err == "preempted after step 7; give the same command again to go on\n"
    assert leave(Stopped(Request.TERMINATE, step=7)) == 143
    assert capsys.readouterr().err == "stopped after step 7 by SIGTERM; the same command goes on\n"
    assert leave(Stopped(Request.INTERRUPT)) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on\ninterrupted\n"


def test_of_ranks_that_stopped_together_the_first_one_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert leave(Stopped(Request.TERMINATE, agreed=True)) == 0
            assert capsys.readouterr().err == ""
            assert leave(Stopped(Request.TERMINATE)) == 143, "it has stopped alone"
            capsys.readouterr()


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], list[str]]]:
    """A stand-in for SLURM's, which notes what it is told; ``tests/slurm`` uses the real one."""

    def install(shows: str = "", requeue: int = 0) -> Callable[[], list[str]]:
        notes = tmp_path / "notes"
        notes.write_text("")
        script = tmp_path / "scontrol"
        script.write_text(
            f'#!/bin/sh\necho "$@" >> {notes}\n'
            f"case $1 in requeue) [ {requeue} = 0 ] || echo 'Job is disabled' >&2; exit {requeue};; esac\n"
            f"echo '{shows}'\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        return lambda: notes.read_text().splitlines()

    return install


def test_a_preempted_job_is_requeued_under_its_own_name(
    scontrol: Callable[..., Callable[[], list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = scontrol()
    assert leave(Stopped(Request.PREEMPT, step=7, agreed=True)) == 75
    assert told() == ["requeue 12"]
    assert "after step 7; job 12 is back in the queue" in capsys.readouterr().err
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "11")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    leave(Stopped(Request.PREEMPT))
    assert told()[-1] == "requeue 11_3"
    assert ending.job_id() == "11_3"


def test_a_requeue_that_is_refused_says_why(
    scontrol: Callable[..., Callable[[], list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    scontrol(requeue=1)
    assert leave(Stopped(Request.PREEMPT)) == 75
    assert "could not be requeued (Job is disabled); give the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shows", "code", "requeued"),
    [
        ("JobState=RUNNING PreemptTime=2026-01-02T03:04:05", 75, True),
        ("JobState=RUNNING PreemptTime=None", 143, False),
        ("JobState=CANCELLED PreemptTime=2026-01-02T03:04:05", 143, False),
        ("", 143, False),
    ],
)
def test_sigterm_requeues_where_slurm_preempts_by_it_and_never_what_was_cancelled(
    scontrol: Callable[..., Callable[[], list[str]]], shows: str, code: int, requeued: bool
) -> None:
    told = scontrol(shows=shows)
    assert leave(Stopped(Request.TERMINATE, agreed=True)) == code
    assert ("requeue 12" in told()) is requeued
