"""The command: what it understands, what it says, and how it leaves."""

# ruff: noqa: E501 - a sentence and the mistake that it answers stand on one line
from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from experiments.cli import main
from experiments.configuration import load_experiment
from experiments.locate import find_experiment, find_run

HEAVY = {"torch", "monai", "torchio", "pytorch_lightning", "lightning", "scipy", "nibabel", "SimpleITK", "wandb"}


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.yaml"
    path.write_text("name: a\ndata: {source: {layout: msd, root: nowhere}}\n", encoding="utf-8")
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Stand-ins for what the commands hand over to; they record what they are given."""
    made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    parts = {"flow": "run fit evaluate report prepare", "prediction": "predict", "bundle.export": "export"}
    for module_name, names in parts.items():
        module = ModuleType(f"experiments.{module_name}")
        for name in names.split():
            setattr(module, name, lambda *args, _name=name, **kwargs: made.append((_name, args, kwargs)) or 0)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("command", ["run", "fit"])
def test_run_and_fit_get_the_experiment_with_overrides_and_fresh(
    experiment: Path, calls: list[Any], command: str
) -> None:
    words = [command, "seed=1", str(experiment), "--fresh", "--trainer.max_steps", "5", "++trainer.ema=None"]
    assert main(words) == 0
    ((name, (loaded,), keywords),) = calls
    assert name == command
    assert keywords == {"fresh": True, "inexact": False}
    assert (loaded.config.seed, loaded.config.trainer.max_steps, loaded.config.trainer.ema) == (1, 5, None)
    assert loaded.overrides == ["seed=1", "trainer.max_steps=5", "trainer.ema=None"]


def test_evaluate_predict_export_and_report_get_the_run(tmp_path: Path, experiment: Path, calls: list[Any]) -> None:
    run = tmp_path / "runs" / "a" / "0123456789"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("name: a", encoding="utf-8")
    assert main(["evaluate", "runs/a", "checkpoint=last", "data.held_out.x=manifest"]) == 0
    assert main(["predict", str(run), "i.nii.gz", "--output", "out", "scan", "--flips=true"]) == 0
    assert main(["export", "runs/a", "checkpoint=last", "--output", "bundle", "smallest_piece=1"]) == 0
    assert main(["report", "runs/a/0123456789"]) == 0
    assert [(name, [*args]) for name, args, _ in calls] == [
        ("evaluate", [Path("runs/a/0123456789"), ["evaluation.checkpoint=last", "data.held_out.x=manifest"]]),
        ("predict", [[run], ["i.nii.gz", "scan"]]),
        (
            "export",
            [
                [Path("runs/a/0123456789")],
                Path("bundle"),
                ["evaluation.checkpoint=last", "evaluation.smallest_piece=1"],
            ],
        ),
        ("report", [Path("runs/a/0123456789")]),
    ]
    words = {"output": Path("out"), "overrides": ["evaluation.flips=true"]}
    assert calls[1][2] == {**words, "uncertainty": False}
    assert calls[2][2] == {}


def test_prepare_gets_the_experiment(experiment: Path, calls: list[Any]) -> None:
    assert main(["prepare", str(experiment)]) == 0
    assert calls[0][1][0].config.name == "a"


def test_config_show_prints_yaml_that_loads_again(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "config", "show", "a.yaml", "seed=3")
    again = experiment.with_name("again.yaml")
    again.write_text(out, encoding="utf-8")
    assert code == 0
    assert load_experiment(again).config == load_experiment(experiment, ["seed=3"]).config


def test_config_check_says_what_holds(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "config", "check", "a.yaml", "trainer.max_steps=9") == (
        0,
        "a.yaml: fine. Source msd, no held-out site, 9 steps.\n",
        "",
    )


def test_all_faults_are_told_with_exit_code_2(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, "run", "a.yaml", "sed.x=3", "data.batch_size=x")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: 2 faults in the configuration",
        "  override 'sed.x=3': sed: an experiment has no key 'sed'; did you mean 'seed'?",
        "  override 'data.batch_size=x': data.batch_size: expects a whole number, not 'x'.",
    ]


def test_config_schema_tells_every_key_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "config", "schema")
    assert code == 0
    heads = [line for line in out.splitlines() if not line.startswith(" ")]
    assert len(heads) == len(set(heads))
    assert "data.batch_size: a whole number = 2" in heads
    assert "name: text (required)" in heads
    assert "model.optimizer.name: one of adamw, sgd = adamw" in heads
    assert "model.optimizer.momentum [sgd]: a number = 0.99" in heads
    assert "    global batch, over all ranks and accumulated batches." in out.splitlines()
    code, out, _ = told(capsys, "config", "schema", "model.contrastive")
    assert all(line.startswith(("model.contrastive.", " ")) for line in out.splitlines())
    code, _, err = told(capsys, "config", "schema", "model.contrastive.wieght")
    assert code == 2
    assert "did you mean 'model.contrastive.weight'?" in err


def test_sites_lists_the_layouts(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "sites")
    assert code == 0
    assert all(name in out for name in ("manifest", "msd", "phantom", "1, 2"))


def test_sites_of_an_experiment_tells_cases_or_the_problem(
    tmp_path: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in ("image.nii.gz", "label.nii.gz"):
        (tmp_path / file).write_bytes(b"")
    (tmp_path / "cases.csv").write_text("case,image,label\none,image.nii.gz,label.nii.gz\n", encoding="utf-8")
    mine = f"data.held_out.mine={{layout: manifest, root: {tmp_path}/cases.csv}}"
    code, out, _ = told(capsys, "sites", "a.yaml", mine)
    rows = {line.split("│")[2].strip(): line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")}
    assert code == 2
    assert [cell.strip() for cell in rows["mine"]] == [
        "held out",
        "mine",
        "manifest",
        f"{tmp_path}/cases.csv",
        "1",
    ]
    assert rows["msd"][0].strip() == "source"
    assert "nowhere" in rows["msd"][4]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "b.yaml"], "error: b.yaml: there is no such file, and no shipped experiment of that name; "),
        (["run", "."], "error: .: is a folder; give an experiment's YAML file."),
        (["run", "a.yaml", "--frsh"], "error: --frsh: is neither an option nor a key of an experiment; did you mean '--fresh'?"),
        (["run", "a.yaml", "--sed", "3"], "error: --sed: is neither an option nor a key of an experiment; did you mean '--seed'?"),
        (["run", "a.yaml", "--seed"], "error: --seed: has no value; write --seed=VALUE."),
        (["run", "a.yaml", "-f"], "error: -f: is no option; "),
        (["study", "run", "ablation", "--jobs", "0"], "error: --jobs: expects a whole number of at least 1, not '0'."),
        (["study", "run", "ablation", "--limit", "few"], "error: --limit: expects a whole number of at least 1, not 'few'."),
        (["run", "a.yaml", "b.yaml"], "error: pansite: unrecognized arguments: b.yaml; see pansite --help."),
        (["run"], "error: pansite run: the following arguments are required: EXPERIMENT; see pansite run --help."),
        (["rnu"], "error: pansite: argument COMMAND: invalid choice: 'rnu'"),
        (["predict", "runs", "x"], "error: pansite predict: the following arguments are required: --output"),
        (["report", ".", "seed=1"], "error: pansite report: takes no overrides, but got 'seed=1'."),
        (["sites", "seed=1"], "error: pansite sites without an experiment: takes no overrides"),
        (["evaluate", "nowhere"], "error: nowhere: there is no such run folder."),
        (["evaluate", "."], "error: .: holds no run: neither it nor a folder in it has a config.yaml"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(
    experiment: Path, calls: list[Any], capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    code, out, err = told(capsys, *words)
    assert (code, out, calls) == (2, "", [])
    assert err.startswith(sentence)
    assert len(err.splitlines()) == 1


def test_a_name_that_means_several_runs_lists_them(tmp_path: Path) -> None:
    from datamodules.errors import UsageError

    for name in ("one", "two", "two.replaced-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"holds 2 runs; give one of {tmp_path}/one, {tmp_path}/two\."):
        find_run(str(tmp_path))


@pytest.mark.parametrize("name", ["quick", "quick.yaml", "experiments/quick.yaml"])
def test_shipped_experiments_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shipped = tmp_path / "experiments"
    shipped.mkdir()
    (shipped / "quick.yaml").write_text("name: quick", encoding="utf-8")
    monkeypatch.setattr("experiments.locate.SHIPPED", shipped)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert find_experiment(name) == shipped / "quick.yaml"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left", "/store/x"), 2, "error: /store/x: the disk is full;"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs"), 2, "error: /runs: no permission (Permission denied);"),
        (OSError(errno.EROFS, "Read-only file system", "/runs"), 2, "error: /runs: no permission"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)  # fmt: skip
def test_faults_of_the_machine(
    experiment: Path,
    calls: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    sentence: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(sys.modules["experiments.flow"], "fit", fail)
    found, _, err = told(capsys, "fit", "a.yaml")
    assert found == code
    assert err.startswith(sentence)


def test_a_fault_of_ours_is_not_dressed_up(experiment: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys.modules["experiments.flow"], "fit", fail)
    with pytest.raises(OSError, match="Input/output"):
        main(["fit", "a.yaml"])


def test_the_commands_exit_code_is_the_handlers(
    experiment: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["experiments.flow"], "fit", lambda *_, **__: 2)
    assert main(["fit", "a.yaml"]) == 2


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], []])
def test_help(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, _ = told(capsys, *words)
    assert code == 0
    assert out.startswith("usage: pansite")


def test_colour_is_for_terminals_only(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = told(capsys, "run", "nowhere.yaml")
    assert "\x1b" not in err


def test_help_config_and_sites_answer_at_once_and_import_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ndata: {source: {layout: msd, root: x}}\n", encoding="utf-8")
    commands = "['--help'], ['config', 'show', 'a.yaml'], ['config', 'schema'], ['sites'], ['sites', 'a.yaml']"
    code = (
        "import sys; from experiments.cli import main\n"
        f"for words in ({commands}): main(words)\n"
        "print('loaded', *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
        "import time; print('seconds', time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    loaded, seconds = (line for line in done.stderr.splitlines() if line.startswith(("loaded", "seconds")))
    assert not HEAVY & set(loaded.split()), loaded
    # All five commands together, and of the processor, whose time other processes lengthen less than the clock's.
    assert float(seconds.split()[1]) < 4.0


def test_the_help_waits_for_no_configuration_and_no_numbers() -> None:
    code = "import sys; from experiments.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"omegaconf", "numpy", "rich"} & set(done.stderr.split())


def test_python_m_experiments_is_the_same_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "config", "show", "nope"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: nope: there is no such file")
    assert "Traceback" not in done.stderr
