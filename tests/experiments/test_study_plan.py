"""What a study says, which of its cells are done, and how the rest is worked off; the runs themselves are made up."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import pytest
import torch
import yaml

from callbacks.requests import Request
from experiments.machine import Share, shares, visible_gpus
from experiments.study import records, run, workers
from experiments.study import settings as same
from experiments.study.cells import lay_out
from experiments.study.config import STUDIES, find_study, load_study
from lightning_modules.config import CorruptionConfig
from lightning_modules.metrics.protocol import how_measured
from lightning_modules.metrics.record import DETAILS
from tests.experiments.fake_runs import Finished, finish

Command = Callable[..., tuple[int, str, str]]
SHIPPED = sorted(path.stem for path in STUDIES.glob("*.yaml"))

STUDY = """
methods:
  plain: phantom_supervised
  better:
    experiment: phantom_supervised
    longer: 1.5
    because: it is given the time.
  same: {experiment: phantom_supervised, overrides: [trainer.log_every=5]}
seeds: [0, 1]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(STUDY)
    monkeypatch.setattr(workers, "start", Finished)
    monkeypatch.setattr(run, "POLL", 0.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    Finished.begun = []
    return tmp_path


@pytest.mark.parametrize("name", SHIPPED)
def test_every_cell_of_a_shipped_study_is_a_valid_experiment_and_no_two_are_the_same(name: str) -> None:
    study = load_study(find_study(name))
    looks = ("dev", "test") if name != "ablation" else ("dev",)
    for look in looks:
        cells = lay_out(study, look=look)  # type: ignore[arg-type]
        assert len(cells) == 3 * len(study.config.methods)
        twice = [hash_ for hash_, count in Counter(cell.hash for cell in cells).items() if count > 1]
        assert not [cell.name for cell in cells if cell.hash in twice]
        sites = {site for cell in cells for site in cell.config.data.held_out}
        assert sites == ({"hill", "lake"} if look == "dev" else {"north", "east", "south", "west"})


def test_the_ablation_has_every_switch_of_both_halves_and_each_operator_left_out_once() -> None:
    study = load_study(find_study("ablation"))
    assert study.reference == "dual_ssl"
    given = [word for method in study.config.methods.values() for word in method.overrides]
    keys = Counter(word.partition("=")[0] for word in given)
    operators = {key.rpartition(".")[2]: n for key, n in keys.items() if ".operators." in key}
    assert operators == dict.fromkeys(CorruptionConfig().operators, 1)
    regions = {word.rpartition("=")[2] for word in given if word.startswith("model.restoration.region.name")}
    assert regions == {"band", "entropy", "mc_dropout", "ema_teacher", "random", "whole"}
    for part in (
        "structure", "rings", "form", "cohesion", "separation", "temperature", "weight", "stride", "gather", "views",
    ):  # fmt: skip
        assert keys[f"model.contrastive.{part}"], part
    for part in ("weight", "skip", "segment_corrupted", "detach_encoder", "region.share", "corruption.decoys"):
        assert keys[f"model.restoration.{part}"], part
    assert study.config.methods["supervised_longer"].longer > 1


def test_a_control_is_trained_longer_by_its_factor_up_to_a_validation(folder: Path) -> None:
    cells = {cell.method: cell for cell in lay_out(load_study(folder / "mine.yaml")) if cell.seed == 0}
    plain, better = cells["plain"].config.trainer, cells["better"].config.trainer
    assert better.max_steps == 1.5 * plain.max_steps
    assert better.max_steps % better.validate_every == 0
    resolved = yaml.safe_load(cells["better"].yaml)
    assert (resolved["trainer"]["max_steps"], resolved["seed"]) == (better.max_steps, 0)


def test_each_source_is_tested_on_the_test_sites_and_the_other_sources(folder: Path) -> None:
    (folder / "cross.yaml").write_text(
        "methods: {plain: phantom_supervised}\nseeds: [3]\nfolds: [0, 1]\n"
        "sources:\n  a: {layout: phantom, site: source, seed: 5, cases: 6}\n"
        "  b: {layout: manifest, root: 'b, c.csv', labels: [7]}\n"
        "test: {north: {layout: phantom, site: north}}\n"
    )
    cells = lay_out(load_study(folder / "cross.yaml"))
    found = {(cell.source, cell.fold): list(cell.config.data.held_out) for cell in cells}
    assert found == {(s, f): ["north", o] for s, o in (("a", "b"), ("b", "a")) for f in (0, 1)}
    b = next(cell for cell in cells if cell.source == "b").config.data.source
    assert (b.labels, Path(b.root).name) == ([7], "b, c.csv")


FAULTS = {
    "metods: {a: b}": "metods: a study has no key 'metods'; did you mean 'methods'?",
    "methods: {a: {experiment: phantom_supervised, longer: 2}}": "methods.a.because: is missing",
    "methods: {a: phantom_supervisd}": "did you mean 'phantom_supervised'?",
    "methods: {a: {experiment: phantom_supervised, overrides: [model.contrastive.wieght=0]}}": (
        "methods.a: override 'model.contrastive.wieght=0'"
    ),
    "methods: {a: phantom_supervised}\nseeds: [0, 0]": "seeds: expects different whole numbers",
    "methods: {a: phantom_supervised}\nreference: b": "reference: there is no method 'b'",
    "methods: {a: phantom_supervised}\nlook: dev": "look: is dev, and the study names no sites under 'dev'",
    "methods: {a: phantom_supervised}\nfolds: [7]": "there are 5 (data.split.folds), from 0 on, and no 7",
    "methods: {a: phantom_supervised}\ndev: {w: {layout: phantom, site: west}}\nlook: dev": "phantom site for 'test'",
    "methods: {a: phantom_supervised}\ntest: {h: {layout: phantom, site: hill}}": "is a phantom site for 'dev'",
    "methods: {a: phantom_supervised}\ndev: {h: {layout: phantm}}\nlook: dev": "did you mean 'phantom'?",
    "methods: {a: {experiment: phantom_supervised, overrides: [seed=3]}}": "the study's own keys 'seeds' and 'folds'",
    "methods: {'a/b': phantom_supervised}": "has letters, digits",
    "methods: {a: phantom_supervised, b: phantom_supervised}\noverrides: [trainer.stepz=4]": "2 of 2 methods: override",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_is_told_with_its_place(folder: Path, pansite: Command, text: str) -> None:
    (folder / "wrong.yaml").write_text(text)
    code, out, err = pansite("study", "run", "wrong.yaml", "--dry-run")
    assert (code, out) == (2, "")
    assert FAULTS[text] in err
    assert "wrong.yaml" in err


def test_like_cells_are_run_once_and_all_is_done_afterwards(folder: Path, pansite: Command) -> None:
    code, out, err = pansite("study", "run", "mine.yaml")
    assert code == 0, err
    assert out.startswith("mine, look test (north, east, south, west): 6 cells, 0 done, 6 to compute\n")
    assert Finished.begun == [f"{method}-source-seed{seed}-fold0" for seed in (0, 1) for method in ("plain", "better")]
    files = sorted(path.stem for path in (folder / "mine" / "test").glob("*.csv"))
    assert len(files) == 6
    assert "to go, about" in out
    code, out, _ = pansite("study", "run", "mine.yaml")
    assert (code, len(Finished.begun)) == (0, 4)
    assert out == "mine, look test (north, east, south, west): 6 cells, 6 done, 0 to compute\n"
    record = records.read(folder / "mine" / "test" / "same-source-seed1-fold0.csv")
    assert (record.head.method, record.head.commit, record.head.validation) == ("same", "0123456789+", 0.7)
    assert "2 CPU cores" in record.head.machine


def test_cells_of_an_earlier_version_make_the_same_table(folder: Path, pansite: Command) -> None:
    """They have none of the measures that came later."""
    assert pansite("study", "run", "mine.yaml")[0] == 0
    _, now, _ = pansite("study", "table", "mine.yaml")
    for path in (folder / "mine" / "test").glob("*-seed*.csv"):
        head, settings, *rows = path.read_text().splitlines(keepends=True)
        table = list(csv.DictReader(rows))
        assert {"ece", "recall_tail"} <= set(table[0])
        with path.open("w", newline="") as file:
            file.writelines([head, settings])
            writer = csv.DictWriter(file, [name for name in table[0] if name not in DETAILS], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(table)
    code, then, err = pansite("study", "table", "mine.yaml")
    assert code == 0, err
    assert then == now
    assert how_measured(2.0, smallest_piece=0.25) in then


def test_only_and_limit_compute_a_part_of_it(folder: Path, pansite: Command) -> None:
    code, out, _ = pansite("study", "run", "mine.yaml", "--only", "better,same", "--limit", "1")
    assert (code, Finished.begun) == (0, ["better-source-seed0-fold0"])
    assert "4 cells, 0 done, 1 to compute" in out
    code, _, err = pansite("study", "run", "mine.yaml", "--only", "beter")
    assert code == 2
    assert "did you mean 'better'?" in err


def test_a_cell_that_fails_is_named_and_the_others_are_done(folder: Path, pansite: Command) -> None:
    (folder / "mine.yaml").write_text(STUDY.replace("same:", "fails:").replace("log_every=5", "precision=32"))
    code, out, err = pansite("study", "run", "mine.yaml")
    assert code == 2
    assert "2 cells have failed" in err
    assert "fails-source-seed0-fold0: it can't be done. (exit code 2;" in err
    assert len(list((folder / "mine" / "test").glob("*.csv"))) == 4
    assert out.count("held-out Dice") == 4


def test_settings_tell_what_made_a_cell_stale_and_a_new_option_at_its_default_makes_none(
    folder: Path, pansite: Command
) -> None:
    pansite("study", "run", "mine.yaml", "--only", "plain")
    path = folder / "mine" / "test" / "plain-source-seed0-fold0.csv"
    text = path.read_text()
    # As it was written before an option came.
    older = json.loads(text.splitlines()[1].partition("settings: ")[2])
    assert older.pop("trainer.ema") is None
    head = json.loads(text.splitlines()[0].partition("cell: ")[2]) | {"hash": same.digest(older)}
    lines = [f"# pansite cell: {json.dumps(head)}", f"# settings: {json.dumps(older)}", *text.splitlines()[2:]]
    path.write_text("\n".join(lines) + "\n")
    assert "2 done" in pansite("study", "run", "mine.yaml", "--only", "plain", "--dry-run")[1]
    (folder / "runs").rename(folder / "gone")
    out = pansite("study", "run", "mine.yaml", "--only", "plain", "--dry-run", "trainer.ema=0.9")[1]
    assert "0 done, 2 to compute" in out
    assert "plain-source-seed0-fold0 is stale: trainer.ema is new and 0.9" in out
    assert "plain-source-seed1-fold0 is stale: trainer.ema was null, is 0.9" in out
    path.write_text("nonsense")
    out = pansite("study", "run", "mine.yaml", "--only", "plain", "--dry-run")[1]
    assert "plain-source-seed0-fold0 is stale: " in out
    assert "not a cell's file" in out


def test_another_way_of_evaluating_makes_a_cell_stale_and_its_run_is_taken_up_again(
    folder: Path, pansite: Command
) -> None:
    words = ("study", "run", "mine.yaml", "--only", "plain")
    pansite(*words)
    path = folder / "mine" / "test" / "plain-source-seed0-fold0.csv"
    before = records.read(path)
    out = pansite(*words, "--dry-run", "evaluation.overlap=0.1")[1]
    assert out.count("is stale: evaluation.overlap was 0.5, is 0.1") == 2
    code, out, _ = pansite(*words, "--limit", "1", "evaluation.overlap=0.1")
    assert (code, out.count("held-out Dice")) == (0, 1)
    again = records.read(path)
    assert (again.head.run, again.settings["evaluation.overlap"]) == (before.head.run, 0.1)
    assert "1 done, 1 to compute" in pansite(*words, "--dry-run", "evaluation.overlap=0.1")[1]


@pytest.mark.parametrize(
    ("again", "look"), [(("evaluation.overlap=0.1",), "test"), (("--look", "dev"), "dev")], ids=["settings", "look"]
)
def test_a_run_that_is_evaluated_again_keeps_the_time_of_its_training(
    folder: Path, pansite: Command, again: tuple[str, ...], look: str
) -> None:
    (folder / "mine.yaml").write_text(f"{STUDY}dev:\n  hill: {{layout: phantom, site: hill}}\n")
    words = ("study", "run", "mine.yaml", "--only", "plain")
    pansite(*words)
    known, unknown = (folder / "runs/studies/mine/test" / f"plain-source-seed{seed}-fold0.json" for seed in (0, 1))
    # As of a run that takes hours, and of one that was not trained by this command.
    known.write_text(json.dumps(json.loads(known.read_text()) | {"seconds": 9000.0, "training": 8000.0}))
    unknown.unlink()
    code, out, err = pansite(*words, *again)
    assert (code, out.count("held-out Dice")) == (0, 2), err
    seconds = [
        records.read(folder / "mine" / look / f"plain-source-seed{seed}-fold0.csv").head.seconds for seed in (0, 1)
    ]
    assert seconds[0] is not None
    assert 8000 <= seconds[0] < 9000
    assert seconds[1] is None


def test_nobody_else_gets_a_cell_before_its_record_stands(
    folder: Path, pansite: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process would find the run finished, and write a record that does not know how long it took."""
    write, written = records.write, []

    def while_others_try(record: records.Record) -> None:
        file = folder / "runs/studies/mine/test" / f".{record.path.stem}.lock"
        with file.open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write(record)
        written.append(record.path)

    monkeypatch.setattr(records, "write", while_others_try)
    code, _, err = pansite("study", "run", "mine.yaml", "--only", "plain")
    assert code == 0, err
    assert [path.is_file() for path in written] == [True, True]


def test_the_look_at_the_sites_for_choosing_has_cells_of_its_own_and_hides_the_sources_test(
    folder: Path, pansite: Command
) -> None:
    (folder / "mine.yaml").write_text(f"{STUDY}dev:\n  hill: {{layout: phantom, site: hill}}\n")
    assert pansite("study", "run", "mine.yaml")[0] == 0
    code, out, err = pansite("study", "run", "mine.yaml", "--look", "dev", "--only", "better", "--limit", "1")
    assert code == 0, err
    assert "mine, look dev (hill): 2 cells, 0 done, 1 to compute" in out
    assert len(list(folder.glob("runs/*/*/config.yaml"))) == 4, "the same runs are looked at"
    code, _, err = pansite("study", "table", "mine.yaml", "--look", "dev")
    assert code == 2
    assert "the reference 'plain' has not been computed yet" in err
    code, out, _ = pansite("study", "table", "mine.yaml", "--look", "dev", "--reference", "better")
    assert code == 0
    assert "Sites for choosing" in out
    assert "source test" not in out
    assert "not done yet: 5 cells" in out
    (folder / "mine" / "test" / "better-source-seed1-fold0.csv").unlink()
    (folder / "runs").rename(folder / "gone")
    code, out, _ = pansite("study", "table", "mine.yaml")
    assert "source test" in out
    assert "not done yet: 1 cell (better-source-seed1-fold0)" in out
    rows = [line.split()[:2] for line in out.splitlines()]
    assert ["better", "1"] in rows, "a seed counts once it is whole"
    assert ["plain", "2"] in rows


def test_a_cell_is_known_without_its_data_but_not_when_its_data_are_others(folder: Path, pansite: Command) -> None:
    for name in ("image", "label"):
        (folder / name).write_text("a")
    (folder / "here.csv").write_text("case,image,label\none,image,label\n")
    (folder / "mine.yaml").write_text(
        "methods: {plain: phantom_supervised}\nseeds: [0]\ntest: {here: {layout: manifest, root: here.csv}}"
    )
    assert pansite("study", "run", "mine.yaml")[0] == 0
    assert "1 done" in pansite("study", "run", "mine.yaml", "--dry-run")[1]
    (folder / "here.csv").write_text("case,image,label\ntwo,image,label\n")
    (folder / "runs").rename(folder / "gone")
    assert "is stale: the cases of here are others now" in pansite("study", "run", "mine.yaml", "--dry-run")[1]
    (folder / "here.csv").unlink()
    assert "1 done" in pansite("study", "run", "mine.yaml", "--dry-run")[1]


def test_cores_and_gpus_are_shared_out_and_a_run_goes_on_with_its_threads(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = lay_out(load_study(folder / "mine.yaml"))[0].config
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert shares(config.trainer, 2, most=9) == [Share(4, None)] * 2
    assert shares(config.trainer, None, most=9) == [Share(1, None)] * 8
    assert shares(config.trainer, None, most=2) == [Share(4, None)] * 2
    config.trainer.accelerator, config.trainer.devices = "gpu", 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert shares(config.trainer, None, most=9) == [Share(2, "4,5"), Share(2, "6,7")]
    with pytest.raises(Exception, match=r"3 × 2 GPUs .* need 6, and there are 4; take at most 2 jobs"):
        shares(config.trainer, 3, most=9)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    with pytest.raises(Exception, match=r"there are 1; set trainer\.devices to at most 1"):
        shares(config.trainer, None, most=9)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == []
    assert shares(config.trainer, None, most=9) == [Share(1, None)] * 4, "two ranks each, and no GPU: cores"

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == [str(number) for number in range(torch.cuda.device_count())]

    cell = lay_out(load_study(folder / "mine.yaml"))[0]
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    for threads in (4, 1):
        lock = workers.hold(cell)
        assert lock is not None
        job = workers.Job([cell], Share(threads, "7"), lock)
        assert workers.hold(cell) is None, "it is being computed"
        process = job._process
        assert isinstance(process, Finished)
        assert process.environment["OMP_NUM_THREADS"] == "4", "bits hang on it"
        assert process.environment["CUDA_VISIBLE_DEVICES"] == "7"
        assert "SLURM_JOB_ID" not in process.environment, "the study's own command is the job"
        job.release()


class Running:
    """A process that ends when it is told to."""

    told: list[int]

    def __init__(self, words: Sequence[str], log: IO[str], environment: Mapping[str, str], lock: IO[str]) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, sig: int, /) -> None:
        type(self).told.append(sig)
        self.code = 143


@pytest.mark.parametrize(
    ("request_", "sent", "code"),
    [
        (Request.TERMINATE, signal.SIGTERM, 143),
        (Request.PREEMPT, signal.SIGUSR1, 75),
        (Request.INTERRUPT, signal.SIGTERM, 130),
    ],
)
def test_a_signal_is_passed_on_and_waited_for(
    folder: Path, pansite: Command, monkeypatch: pytest.MonkeyPatch, request_: Request, sent: int, code: int
) -> None:
    Running.told = []
    asked = iter([0, 0])
    monkeypatch.setattr(workers, "start", Running)
    monkeypatch.setattr(run.SIGNALS, "requested", lambda: next(asked, request_))
    found, _, err = pansite("study", "run", "mine.yaml", "--jobs", "2")
    assert (found, Running.told) == (code, [sent, sent])
    assert "same command" in err
    assert not list((folder / "mine").rglob("*.csv"))


def test_what_is_missing_is_submitted_once_as_an_array_and_found_when_it_is_done(
    folder: Path, pansite: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_ = folder / "bin"
    bin_.mkdir()
    for name, text in (("sbatch", "echo 77"), ("squeue", "printf '77_0 PENDING\\n77_1 PENDING\\n'")):
        (bin_ / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    words = ("study", "run", "mine.yaml", "--only", "plain", "--submit")
    code, out, _ = pansite(*words)
    assert code == 0
    assert "job 77, an array of 2 runs" in out
    code, out, _ = pansite(*words)
    assert (code, Finished.begun) == (0, [])
    assert "2 of them are in the queue already" in out
    assert "job 77" not in out
    for file in (folder / "runs/studies/mine/test").glob("*.yaml"):
        finish(file)
    assert "2 done, 0 to compute" in pansite(*words[:-1], "--dry-run")[1]
    assert not (folder / "mine").exists(), "a look alone writes nothing"
    out = pansite("study", "table", "mine.yaml", "--only", "plain")[1]
    assert "not done yet" not in out
    assert len(list((folder / "mine" / "test").glob("plain-*.csv"))) == 2
