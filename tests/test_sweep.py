"""Sweeps without account and network: killed, continued, ended early; what they find is shown, then judged."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import experiments.report.page  # noqa: F401 - what commands import late, so that no fork need do it
from experiments import flow, status
from experiments.cli import main
from experiments.configuration import load_experiment
from experiments.run_folder import RunFolder
from experiments.sweep import children, search, trial
from experiments.sweep.opened import Opened, open_sweep
from experiments.sweep.study import Study
from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]
FIT = '[pansite, fit, {tiny}, "${{args_no_hyphens}}"]'
RATES = "{model.optimizer.lr: {distribution: log_uniform_values, min: 0.001, max: 0.1}}"


def write(folder: Path, tiny: Tiny, parameters: str, more: str = "", **lines: str) -> Path:
    """A sweep over the tiny experiment."""
    keys = {
        "command": FIT.format(tiny=tiny.file),
        "method": "random",
        "metric": "{name: val/dice, goal: maximize}",
        "parameters": parameters,
        **lines,
    }
    path = folder / "s.yaml"
    path.write_text("".join(f"{key}: {text}\n" for key, text in keys.items()) + more)
    return path


def forked(work: Callable[[], object]) -> int:
    """Do something in a fork of this process, imports done; its number."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            code = int(work() or 0)  # type: ignore[call-overload]
        finally:
            os._exit(code)
    return child


def wait(come: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps(run: Path) -> list[int]:
    return [int(line.split(",")[0]) for line in (run / "metrics.csv").read_text().splitlines()[1:]]


@pytest.mark.slow
def test_a_killed_trial_is_continued_and_the_best_alone_is_judged(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, tiny, RATES, "run_cap: 2\n")
    root = tmp_path / "runs"
    words = ["sweep", str(file), f"run.root={root}", "trainer.max_steps=14", "trainer.validate_every=7"]
    child = forked(lambda: main(words))
    wait(lambda: [*root.glob("tiny/*/checkpoints/last.ckpt")])
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (run,) = (path.parent.parent for path in root.glob("tiny/*/checkpoints/last.ckpt"))
    code, out, err = pansite("sweep", file, "--show", *words[2:3])
    assert code == 0, err
    assert re.search(r"0 +waiting", out)

    code, out, err = pansite(*words)
    assert code == 0, err
    assert "trial 0 again: model.optimizer.lr=" in out
    assert f"{run}: going on from step " in out
    assert steps(run) == list(range(1, 15)), "each step once"
    study = json.loads((root / "sweeps" / "s" / "sweep.json").read_text())
    assert study["overrides"] == words[2:]
    runs = sorted(root.glob("tiny/[!.]*"))
    assert len(runs) == 2, "none lost, none doubled"
    # A warm process: what a trial needs beyond the first is no import.
    assert {each.pid for path in runs if (each := status.read(path))} == {os.getpid()}

    # Which is the best is known by source validation; it alone has seen the held-out sites.
    (best,) = re.findall(r"best so far: trial (\d), val/dice (0\.\d+)", out)
    judged = [path for path in runs if (path / "evaluation" / "summary.json").is_file()]
    assert len(judged) == 1
    highest = max(
        float(cell)
        for line in (judged[0] / "metrics.csv").read_text().splitlines()[1:]
        if (cell := _dice(judged[0], line))
    )
    assert float(best[1]) == pytest.approx(highest, abs=1e-4)

    # The same as a command and as an experiment: the very run.
    (command,) = re.findall(r"^  pansite run (.*)$", out, flags=re.M)
    assert command.startswith(f"{tiny.file} run.root=")
    yaml = root / "sweeps" / "s" / "best.yaml"
    assert f"extends: {tiny.file}" in yaml.read_text()
    code, out, err = pansite("fit", yaml)
    assert code == 0, err
    assert f"{judged[0]}: trained already, all 14 steps" in out

    # Nothing is left to do, nor to be told twice.
    code, out, err = pansite(*words)
    assert code == 0, err
    assert "trial 0" not in out.partition("s: ")[0]
    page = (root / "sweeps" / "s" / "report.html").read_text()
    assert page.count("<svg") == 2
    assert not re.search(r"(src|href)=\"?(https?:)?//", page)
    assert "no trial has seen a held-out site" in page


def _dice(run: Path, line: str) -> str:
    columns = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    return line.split(",")[columns.index("val/dice")]


@pytest.mark.slow
def test_what_does_worse_is_ended_at_a_validation(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Study.judge
    # Who does worse is not left to a few steps of a tiny network.
    monkeypatch.setattr(Study, "judge", lambda self, number, place, _: judge(self, number, place, 1 - number / 2))
    monkeypatch.setattr(flow, "evaluate", lambda *_: 0)
    rates = "{model.optimizer.lr: {values: [0.02, 1.0e-9]}}"
    early = "early_terminate: {type: hyperband, min_iter: 2, eta: 3}\n"
    file = write(tmp_path, tiny, rates, early, method="grid")
    words = [f"run.root={tmp_path}", "trainer.max_steps=8", "trainer.validate_every=2", "trainer.checkpoint_every=8"]
    code, out, err = pansite("sweep", file, *words)
    assert code == 0, err
    (number,) = re.findall(r"trial (\d): ended after step (\d), others do better", out) or [("", "")]
    opened = open_sweep(str(tmp_path / "sweeps" / "s"), [])
    trials = Study(opened.folder, opened.plan, 0).shown()
    (pruned,) = (each for each in trials if each.state == "pruned")
    assert str(pruned.number) == number[0]
    assert number == ("1", "4"), "at the end of the second validation"
    assert pruned.folder is not None
    assert steps(pruned.folder)[-1] == int(number[1])
    # It is saved, so that it can go on by hand.
    code, out, _ = pansite("fit", pruned.folder / "config.yaml")
    assert (code, f"going on from step {number[1]}" in out) == (0, True)


class Stub:
    """Training without a network: a trial counts to ten in its folder, and goes on where it was."""

    def __init__(self, root: Path, seconds: float = 0.01) -> None:
        self._root = root
        self._seconds = seconds

    def __call__(self, opened: Opened, loaded: object) -> RunFolder:
        from experiments.configuration import Loaded

        assert isinstance(loaded, Loaded)
        folder = RunFolder(self._root / f"{loaded.config.model.optimizer.lr:.9f}")
        folder.path.mkdir(parents=True, exist_ok=True)
        with folder.locked():
            done = len(steps(folder.path)) if folder.metrics.is_file() else 0
            for step in range(done + 1, 11):
                time.sleep(self._seconds)
                lines = [f"{k},{loaded.config.model.optimizer.lr}\n" for k in range(1, step + 1)]
                part = folder.path / "part"
                part.write_text("step,val/dice\n" + "".join(lines))
                part.replace(folder.metrics)
            with (folder.path / "ends").open("a") as file:
                file.write("ended\n")
        return folder


def test_four_processes_killed_at_random_lose_no_trial_and_double_none(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_train", Stub(tmp_path / "runs"))
    file = write(tmp_path, tiny, RATES, method="bayes")
    opened = open_sweep(str(file), [f"run.root={tmp_path}"])
    cap, kills = 16, 9

    def work() -> None:
        search._work(opened, Study(opened.folder, opened.plan, 0), cap)

    draw = random.Random(3)
    workers = [forked(work) for _ in range(4)]
    for _ in range(kills):
        time.sleep(draw.uniform(0.02, 0.35))
        place = draw.randrange(4)
        os.kill(workers[place], signal.SIGKILL)
        os.waitpid(workers[place], 0)
        workers[place] = forked(work)
    codes = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
    assert codes == [0] * 4
    work()  # a trial whose process was the last to die
    trials = Study(opened.folder, opened.plan, 0).shown()
    assert [each.number for each in trials] == list(range(cap))
    assert {each.state for each in trials} == {"done"}
    assert len({str(each.values) for each in trials}) == cap
    ends = [path.read_text().splitlines() for path in (tmp_path / "runs").glob("*/ends")]
    assert len(ends) == cap
    assert not [*(opened.folder / "leases").iterdir()]


def test_repair_finishes_what_has_died_and_begins_nothing(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_train", Stub(tmp_path / "runs"))
    monkeypatch.setattr(flow, "evaluate", lambda *_: 0)
    file = write(tmp_path, tiny, RATES)
    root = f"run.root={tmp_path}"
    opened = open_sweep(str(file), [root])
    os.waitpid(forked(lambda: Study(opened.folder, opened.plan, 0).take(9)), 0)
    code, out, err = pansite("sweep", file, root, "--repair")
    assert code == 0, err
    assert re.search(r"trial 0 again: .*\ntrial 0: val/dice", out)
    assert len(Study(opened.folder, opened.plan, 0).shown()) == 1


def test_a_trial_that_kills_its_process_each_time_is_given_up(tiny: Tiny, tmp_path: Path) -> None:
    opened = open_sweep(str(write(tmp_path, tiny, RATES)), [f"run.root={tmp_path}"])
    for _ in range(10):
        os.waitpid(forked(lambda: Study(opened.folder, opened.plan, 0).take(1)), 0)
    study = Study(opened.folder, opened.plan, 0)
    assert study.take(1) is None
    assert [(each.state, each.reason) for each in study.shown()] == [("failed", "its process has died 10 times")]


def test_trial_after_trial_that_fails_ends_the_sweep(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    # Each value alone is borne, together with the accumulation of the command none is.
    file = write(tmp_path, tiny, "{data.batch_size: {values: [3, 5, 7, 9]}}", method="grid",
                 command=f'[pansite, fit, {tiny.file}, trainer.accumulate=2, "${{args}}"]')  # fmt: skip
    code, out, err = pansite("sweep", file, f"run.root={tmp_path}")
    assert code == 2
    assert "can't be shared out evenly" in err
    assert "Traceback" not in err + out


def test_a_sweep_that_peeks_says_so_in_red(
    tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = Stub(tmp_path / "runs")

    def train(opened: Opened, loaded: object) -> RunFolder:
        folder = stub(opened, loaded)
        summary = {"held_out_macro": {"dice": 0.5}, "sites": {"north": {"dice": {"mean": 0.4}}}}
        (folder.path / "evaluation").mkdir(exist_ok=True)
        (folder.path / "evaluation" / "summary.json").write_text(json.dumps(summary))
        return folder

    monkeypatch.setattr(trial, "_train", train)
    metric = "{name: evaluation/held_out_macro/dice, goal: maximize}"
    command = FIT.format(tiny=tiny.file).replace("fit", "run")
    file = write(tmp_path, tiny, RATES, "run_cap: 1\n", metric=metric, command=command)
    code, out, err = pansite("sweep", file, f"run.root={tmp_path}", "--allow-peeking")
    assert code == 0, err
    assert "Selection saw the test sites" in out
    page = (tmp_path / "sweeps" / "s" / "report.html").read_text()
    assert re.search(r'<p class="lead bad" role="alert">Selection saw the test sites', page)
    assert "0.500" in page


@pytest.mark.slow
def test_jobs_side_by_side_share_the_trials(tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, tiny, RATES, "run_cap: 2\n")
    words = [f"run.root={tmp_path}", "trainer.max_steps=2", "trainer.validate_every=1", "trainer.checkpoint_every=1"]
    assert main(["sweep", str(file), "--jobs", "2", *words]) == 0, capfd.readouterr().err
    assert sorted(re.findall(r"^trial (\d): val/dice", capfd.readouterr().out, flags=re.M)) == ["0", "1"]
    pids = {each.pid for path in tmp_path.glob("tiny/[!.]*") if (each := status.read(path)) and each.work == "fit"}
    assert os.getpid() not in pids


def test_a_process_that_was_killed_is_started_again_and_signals_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import os, pathlib, signal, sys, time\n"
        "mark = pathlib.Path(sys.argv[1]) / os.environ['PLACE']\n"
        "lives = len(mark.read_text()) if mark.exists() else 0\n"
        "mark.write_text('x' * (lives + 1))\n"
        "lives or os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setattr(children, "command", lambda words: [sys.executable, "-c", script, *words])
    places = [{"PLACE": str(number)} for number in range(2)]
    assert children.run([str(tmp_path)], places, again=lambda code: code < 0) == [0, 0]
    assert [(tmp_path / each["PLACE"]).read_text() for each in places] == ["xx", "xx"]


def test_gpus_are_shared_out_a_device_a_trial(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    settings = load_experiment(tiny.file, ["trainer.accelerator=auto"]).config.trainer
    assert [each["CUDA_VISIBLE_DEVICES"] for each in search._places(settings, 3)] == ["4", "5", "6"]
    with pytest.raises(Exception, match="take at most 3 jobs"):
        search._places(settings, 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert search._places(load_experiment(tiny.file).config.trainer, 2) == [{"OMP_NUM_THREADS": "4"}] * 2
