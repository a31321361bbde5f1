"""From a YAML to a report: what a run leaves, how it is continued, and that a kill costs nothing but time."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from datamodules.batch import PatchBatch
from lightning_modules.dual_ssl import DualSSLModule
from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]


def only_run(root: Path, name: str = "tiny") -> Path:
    runs = [path for path in (root / name).iterdir() if path.is_dir() and ".replaced-" not in path.name]
    assert len(runs) == 1, runs
    return runs[0]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def same(a: object, b: object) -> bool:
    """Whether two nested containers hold the same, tensors to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "evaluation" / "per_case.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run that tests read and leave as it is."""
    from experiments.cli import main

    root = tmp_path_factory.mktemp("finished")
    assert main(["run", str(tiny.file), f"run.root={root}"]) == 0
    return only_run(root)


def test_a_run_leaves_all_that_it_is_known_by(finished: Path) -> None:
    for name in (
        "config.yaml", "overrides.txt", "environment.json", "split.json", "metrics.csv", "checkpoints/last.ckpt",
        "checkpoints/best.ckpt", "evaluation/per_case.csv", "evaluation/summary.json", "evaluation/report.html",
    ):  # fmt: skip
        assert (finished / name).stat().st_size > 0, name
    assert not list(finished.rglob("*.part"))
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert "run.root=" in (finished / "overrides.txt").read_text()


def test_metrics_have_every_step_once_with_the_three_losses_their_gradients_and_every_region(finished: Path) -> None:
    with (finished / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == [str(step) for step in range(1, 7)]
    columns = set(table[0])
    assert {f"loss/{term}" for term in ("total", "segmentation", "contrastive", "restoration")} <= columns
    assert {f"grad_norm/{term}" for term in ("segmentation", "contrastive", "restoration")} <= columns
    regions = [f"{third}_{depth}" for third in ("head", "body", "tail") for depth in ("core", "rim")]
    assert {f"fill/{region}" for region in (*regions, "near", "mid", "far")} <= columns
    assert [row["step"] for row in table if row["val/dice"]] == ["3", "6"]


def test_every_case_is_measured_once_and_the_source_under_its_own_name(finished: Path) -> None:
    table = rows(finished)
    assert list(table[0])[:5] == ["site", "case", "dice", "nsd", "hd95"]
    found = [(row["site"], row["case"]) for row in table]
    assert len(set(found)) == len(found)
    tested = json.loads((finished / "split.json").read_text())["test"]
    assert [case for site, case in found if site == "source"] == tested
    assert [site for site, _ in found if site != "source"] == ["north", "west", "west"]
    summary = json.loads((finished / "evaluation" / "summary.json").read_text())
    assert {name: site["n"] for name, site in summary["sites"].items()} == {"source": 2, "north": 1, "west": 2}
    macro = (summary["sites"]["north"]["dice"]["mean"] + summary["sites"]["west"]["dice"]["mean"]) / 2
    assert summary["held_out_macro"]["dice"] == pytest.approx(macro)
    assert summary["gap"]["dice"] == pytest.approx(summary["sites"]["source"]["dice"]["mean"] - macro)
    assert 0 < summary["location_prior"]["west"] < 1


def test_the_same_command_finds_all_done_and_alters_nothing(finished: Path, tiny: Tiny, pansite: Command) -> None:
    before = weights(finished)
    stamps = {path: path.stat().st_mtime_ns for path in (finished / "evaluation" / "cases").rglob("*.json")}
    code, out, _ = pansite(
        "run", tiny.file, f"run.root={finished.parent.parent}", "trainer.log_every=2", "data.workers=1"
    )
    assert code == 0
    assert "trained already, all 6 steps" in out
    assert "none of them still missing" in out
    assert same(weights(finished), before)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_site_added_later_is_all_that_is_computed(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    assert pansite("run", tiny.file, f"run.root={tmp_path}")[0] == 0
    run = only_run(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in (run / "evaluation" / "cases").rglob("*.json")}
    added = f"{{layout: phantom, site: hill, cases: 1, root: {tiny.home}/phantoms}}"
    code, out, _ = pansite("evaluate", run, f"data.held_out.hill={added}")
    assert code == 0
    assert "6 cases to evaluate, 1 of them still missing" in out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert [row["site"] for row in rows(run)].count("hill") == 1

    # A mistake does not stay with the run, nor does what was asked for once.
    config = (run / "config.yaml").read_text()
    assert "hill" in config
    assert pansite("evaluate", run, "data.held_out.gone={layout: manifest, root: /nowhere/cases.csv}")[0] == 2
    assert pansite("evaluate", run, "checkpoint=last")[1].startswith("last.ckpt: 6 cases")
    assert pansite("evaluate", run)[1].startswith("best.ckpt: 6 cases")
    assert (run / "config.yaml").read_text() == config

    code, _, err = pansite("evaluate", run, "model.optimizer.lr=1")
    assert code == 2
    assert "model.optimizer" in err

    code, out, _ = pansite("run", tiny.file, f"run.root={tmp_path}", "--fresh")
    assert code == 0
    assert "is kept as" in out
    assert (tmp_path / "tiny" / f"{run.name}.replaced-1" / "metrics.csv").is_file()
    assert "hill" not in {row["site"] for row in rows(run)}


def test_only_what_alters_the_weights_makes_another_run(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=1")
    assert pansite(*words)[0] == 0
    run = only_run(tmp_path)
    same = (
        "data.workers=2", "trainer.checkpoint_every=5", "data.held_out.west.cases=1", "evaluation.overlap=0.1",
        "logging.wandb=offline", "trainer.devices=2", f"data.store={tmp_path / 'store'}",
    )  # fmt: skip
    assert "trained already" in pansite(*words, *same)[1]
    assert pansite(*words, "model.optimizer.lr=0.01")[0] == 0
    assert len([path for path in run.parent.iterdir() if path.is_dir()]) == 2


def test_fit_needs_no_held_out_file_and_evaluate_says_which_one_is_missing(
    tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    gone = "{gone: {layout: manifest, root: /nowhere/cases.csv}}"
    assert pansite("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=1", f"data.held_out={gone}")[0] == 0
    code, _, err = pansite("evaluate", only_run(tmp_path))
    assert code == 2
    assert "gone" in err
    assert "/nowhere/cases.csv" in err


def test_weights_of_another_run_are_taken_up_or_refused_in_a_sentence(
    finished: Path, tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=1", f"model.init={finished}")
    still = ("model.optimizer.lr=1e-12", "model.optimizer.weight_decay=0")
    assert pansite(*words, *still)[0] == 0
    start, end = weights(finished, "best"), weights(only_run(tmp_path))
    for name in start:
        if name.startswith("network."):
            assert torch.allclose(start[name], end[name], atol=1e-6), name
    code, _, err = pansite(*words, "model.network.filters=[8, 16, 32]")
    assert code == 2
    assert "model.init" in err
    assert len(err) < 400
    # Without them it is another run; the one that did not fit has left no folder.
    assert pansite(*words[:-1], *still)[0] == 0
    assert len([path for path in (tmp_path / "tiny").iterdir() if path.is_dir()]) == 2


def test_the_module_run_by_python_is_the_same_command_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "config", "check", "phantom_dual_ssl"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "phantom_dual_ssl: fine" in done.stdout


@pytest.mark.skipif(
    "PANSITE_TEST_DATA" not in os.environ, reason="PANSITE_TEST_DATA, the folder of real CTs, is not set"
)
def test_real_cts_of_a_manifest_are_held_out_and_predicted_on_their_own_grids(
    finished: Path, pansite: Command, tmp_path: Path
) -> None:
    """A NIfTI and a DICOM series whose label is stored in another orientation."""
    real = Path(os.environ["PANSITE_TEST_DATA"]) / "totalsegmentator"
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    manifest = tmp_path / "cases.csv"
    manifest.write_text(
        "case,image,label\n"
        f"nifti,{real / 'example_ct.nii.gz'},{real / 'example_seg_fast_force_split.nii.gz'}\n"
        f"dicom,{real / 'example_ct_dicom'},{real / 'example_seg_dicom.nii.gz'}\n"
        f"mr,{real / 'example_mr_sm.nii.gz'},{real / 'example_seg_mr.nii.gz'}\n"
    )
    site = f"data.held_out={{real: {{layout: manifest, root: {manifest}, labels: [7]}}}}"
    code, out, err = pansite("evaluate", run, site, "predictions=true")
    assert code == 0, err
    assert [row["case"] for row in rows(run) if row["site"] == "real"] == ["dicom", "nifti"]
    excluded = json.loads((run / "evaluation" / "excluded.json").read_text())
    assert "not a CT" in excluded["real"]["mr"]
    assert "real/mr is left out: " in out
    original, predicted = (
        nib.load(path) for path in (real / "example_ct.nii.gz", run / "predictions" / "real" / "nifti.nii.gz")
    )
    assert predicted.shape == original.shape
    assert np.allclose(predicted.affine, original.affine, atol=1e-3)


VARIANTS = {
    "plain": [],
    "averaged and accumulated, with workers": ["trainer.ema=0.9", "trainer.accumulate=2", "data.workers=2"],
    "single precision": ["trainer.precision=32"],
}


@dataclass(frozen=True)
class Moment:
    """The call of a function at which a process dies.

    Attributes:
        function: as ``module:name``.
        call: which of its calls in the life of the process, from 1.
        file: only calls that bring a file of this name into its place are counted.
        after: die when the call has returned, not before it.
    """

    function: str
    call: int = 1
    file: str = ""
    after: bool = False


def moments(draw: random.Random) -> list[Moment]:
    """Deaths one after the other, each a little further on: six steps, validated every 3, saved every 2."""
    module, replace = "lightning_modules.dual_ssl:DualSSLModule", "os:replace"
    return [
        Moment(replace, file=draw.choice(["config.yaml", "split.json", "environment.json"])),
        Moment(f"{module}.training_step", draw.randint(2, 6)),
        Moment(f"{module}.validation_step", draw.randint(1, 2)),
        Moment(replace, file="best.ckpt", after=draw.random() < 0.5),
        Moment(replace, file="last.ckpt"),
        Moment(replace, file="last.ckpt", after=True),
        Moment(replace, file="metrics.csv", after=draw.random() < 0.5),
        Moment("callbacks.per_case:write_row", draw.randint(1, 3), after=draw.random() < 0.5),
        Moment(f"{module}.test_step", 2),
        Moment(replace, file=draw.choice(["per_case.csv", "summary.json", "report.html"])),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_killed_at_every_turn_ends_with_the_same_bits(variant: str, tiny: Tiny, tmp_path: Path) -> None:
    words = ["run", str(tiny.file), *VARIANTS[variant]]
    assert _in_a_child([*words, f"run.root={tmp_path / 'calm'}"]) == 0
    killed = [*words, f"run.root={tmp_path / 'killed'}"]
    for moment in moments(random.Random(variant)):
        assert _in_a_child(killed, moment) == -signal.SIGKILL, moment
    assert _in_a_child(killed) == 0
    _assert_equal_runs(only_run(tmp_path / "calm"), only_run(tmp_path / "killed"))


@pytest.mark.slow
def test_a_run_killed_by_the_clock_ends_with_the_same_bits(tiny: Tiny, tmp_path: Path) -> None:
    words = ["run", str(tiny.file), "trainer.max_steps=9"]
    start = time.monotonic()
    assert _in_a_child([*words, f"run.root={tmp_path / 'calm'}"]) == 0
    took = time.monotonic() - start
    draw = random.Random(0)
    for _ in range(3):
        _in_a_child([*words, f"run.root={tmp_path / 'killed'}"], draw.uniform(0.1, 0.9) * took)
    assert _in_a_child([*words, f"run.root={tmp_path / 'killed'}"]) == 0
    _assert_equal_runs(only_run(tmp_path / "calm"), only_run(tmp_path / "killed"))


def _assert_equal_runs(a: Path, b: Path) -> None:
    assert a.name == b.name
    for name in ("last", "best"):
        one, other = (torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for run in (a, b))
        assert one.keys() == other.keys()
        assert {key for key in one if not same(one[key], other[key])} == set(), name
    for name in ("metrics.csv", "split.json", "evaluation/per_case.csv"):
        assert (a / name).read_text() == (b / name).read_text(), name


def _in_a_child(words: list[str], death: Moment | float | None = None) -> int:
    """Run the command in a fork of this process, imports done.

    Args:
        words: of the command.
        death: the call at which it is killed with all its children, or after how many seconds.

    Returns:
        its exit code, or minus the signal that ended it.
    """
    import experiments.flow  # noqa: F401 - so that the fork need not import it
    from experiments.cli import main

    torch.set_num_threads(1)
    child = os.fork()
    if child == 0:
        os.setsid()
        code = 70
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            if isinstance(death, Moment):
                _die_at(death)
            code = main(words)
        finally:
            os._exit(code)
    if isinstance(death, float):
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, death)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return os.waitstatus_to_exitcode(status)


def _die_at(moment: Moment) -> None:
    module, _, path = moment.function.partition(":")
    *owners, name = path.split(".")
    owner = import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = 0

    def counted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += not moment.file or Path(arguments[1]).name == moment.file
        if calls == moment.call and not moment.after:
            os.killpg(0, signal.SIGKILL)
        result = original(*arguments, **keywords)
        if calls == moment.call:
            os.killpg(0, signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def test_ctrl_c_is_said_and_the_same_command_goes_on(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}")
    original = DualSSLModule.training_step
    steps = 0

    def interrupt(self: DualSSLModule, batch: PatchBatch, batch_idx: int) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)

    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DualSSLModule, "training_step", interrupt)
            code, _, err = pansite(*words)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    assert code == 130
    assert err.strip().endswith("interrupted")
    code, out, _ = pansite(*words)
    assert code == 0
    assert "going on from step 2" in out


@pytest.mark.slow
def test_two_ranks_train_and_measure_each_case_once(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    # Three validation cases on two ranks: one has more to do than the other.
    words = ["run", str(tiny.file), f"run.root={tmp_path}", "data.source.cases=7", "data.split.folds=3"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *words, "trainer.devices=2"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    found = [(row["site"], row["case"]) for row in rows(run)]
    assert len(set(found)) == len(found) == len(json.loads((run / "split.json").read_text())["test"]) + 3
    assert done.stdout.count("report:") == 1
    # One process takes it for its own run, with nothing left to do.
    code, out, _ = pansite(*words)
    assert code == 0
    assert "trained already, all 6 steps" in out
    assert "none of them still missing" in out
