"""The README does what it says: its snippets run, its commands parse, its files exist, its outputs are real."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pytest

from datamodules.layouts import LAYOUTS
from experiments import cli
from experiments.command_line import sort_words, with_evaluation_keys
from experiments.configuration import load_experiment
from experiments.locate import SHIPPED, find_experiment
from experiments.study.cells import lay_out
from experiments.study.config import find_study, load_study
from tests import launched

HOUSE = Path(__file__).resolve().parent.parent
README = (HOUSE / "README.md").read_text(encoding="utf-8")
ROOMS = ("experiments", "callbacks", "lightning_modules", "datamodules", "tests", ".ci")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


def commands() -> list[list[str]]:
    """The words of every command line of ``pansite`` in a block, without ``pansite``."""
    lines = [line.removeprefix("$ ") for block in blocks("bash") + blocks("console") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("pansite ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the README's reader stands, with the YAML files that it told them to write."""
    for block in blocks("yaml"):
        name, _, text = block.removeprefix("# ").partition("\n")
        (tmp_path / name).write_text(text if name != "wrong.yaml" else block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_site(name: str, cases: int, first: int = 0) -> None:
    """A manifest with small bodies in air, each with a bar of pancreas, in the working folder."""
    rows = ["case,image,label"]
    for number in range(cases):
        rng = np.random.default_rng(first + number)
        x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 36, 24)], indexing="ij")
        radius = np.hypot(x / 0.85, y / 0.75)
        label = (abs(x) < 0.45) & (abs(y - rng.uniform(-0.1, 0.1)) < 0.2) & (abs(z) < 0.2)
        hu = np.select([np.hypot(x, y + 0.4) < 0.12, label, radius < 0.75, radius < 1], [400, 110, 45, -100], -1000)
        hu = (hu + rng.normal(0, 8, hu.shape)).round().astype(np.int16)
        for kind, voxels in (("image", hu), ("label", label.astype(np.uint8))):
            nib.save(nib.Nifti1Image(voxels, np.diag([5.0, 5.0, 5.0, 1.0])), f"{name}_{number}_{kind}.nii.gz")
        rows.append(f"c{number},{name}_{number}_image.nii.gz,{name}_{number}_label.nii.gz")
    Path(f"{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_the_python_snippet_trains_on_one_site_and_evaluates_another(folder: Path) -> None:
    write_site("here", 5)
    write_site("there", 2, first=50)
    (snippet,) = blocks("python")
    smaller = {
        "(96, 96, 96),": "(32, 32, 32), store='store'",
        "max_steps=20_000,": "max_steps=2, accelerator='cpu', enable_progress_bar=False,",
        "val_check_interval=250": "val_check_interval=2",
        "pl.Trainer(logger=False,": "pl.Trainer(logger=False, accelerator='cpu', enable_progress_bar=False,",
    }
    for wide, small in smaller.items():
        assert snippet.count(wide) == 1, f"{wide!r} is to be made smaller for this test"
        snippet = snippet.replace(wide, small)
    (folder / "snippet.py").write_text(snippet, encoding="utf-8")
    runpy.run_path("snippet.py", run_name="__main__")
    rows = (folder / "evaluation" / "per_case.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["site", "here", "there", "there"]


@pytest.mark.slow
def test_the_readers_own_experiment_runs_on_two_devices_and_a_third_site_is_added(folder: Path) -> None:
    write_site("here", 5)
    write_site("there", 1, first=50)
    write_site("third", 1, first=60)
    text = (folder / "mine.yaml").read_text(encoding="utf-8")
    (msd,) = re.findall(r"^ +msd: .*\n", text, flags=re.M)
    (folder / "mine.yaml").write_text(text.replace(msd, ""), encoding="utf-8")
    smaller = [
        "data.patch_size=[32,32,32]", "data.batch_size=2", "data.augmentation.name=none", "data.workers=0",
        "data.store=store", "trainer.max_steps=2", "trainer.validate_every=1", "trainer.accelerator=cpu",
        "trainer.precision=32", "trainer.progress_bar=false", "model.network.filters=[4,8,16]",
        "logging.wandb=disabled", "logging.panel_every=1",
    ]  # fmt: skip
    code, _, err = launched.run(["run", "mine.yaml", *smaller, "trainer.devices=2"], folder)
    assert code == 0, err
    (added,) = [
        words for words in commands() if words[0] == "evaluate" and "data.held_out.third.layout=manifest" in words
    ]
    assert cli.main([*added, "trainer.devices=1"]) == 0
    (run,) = (path.parent for path in folder.glob("runs/mine/*/config.yaml"))
    sites = {row.split(",")[0] for row in (run / "evaluation" / "per_case.csv").read_text("utf-8").splitlines()}
    assert sites == {"site", "here", "there", "third"}
    (tree,) = (block for block in blocks("text") if "config.yaml" in block)
    told = set(re.findall(r"[├└]── ([\w./]+)", tree))
    there = {
        path.name + "/" * path.is_dir()
        for path in (*run.iterdir(), *run.glob("checkpoints/*"), *run.glob("evaluation/*"))
    }
    rare = {"inexact.json", "nonfinite/", "overlap.json", "predictions/", "wandb/"}
    assert told - there == rare, "all else of the tree is there"
    assert {path for path in there - told if ".prev." not in path} == set(), "the tree leaves nothing out"


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_line_is_understood(folder: Path, words: list[str]) -> None:
    sorted_words = sort_words(words)
    parsed = cli._parser().parse_args(sorted_words.own)
    experiment = getattr(parsed, "experiment", None)
    overrides = sorted_words.overrides
    if hasattr(parsed, "run"):
        experiment = "phantom_quick"
        overrides = with_evaluation_keys([word for word in overrides if not word.startswith("check_ct=")])
    if hasattr(parsed, "study"):
        assert lay_out(load_study(find_study(parsed.study)), overrides, parsed.look)
    if experiment is not None and experiment != "wrong.yaml":
        assert load_experiment(find_experiment(experiment), overrides).config.name


def test_the_table_of_commands_is_that_of_the_command() -> None:
    rows = re.findall(r"^\| `pansite (\w+(?: (?:show|check|schema))?)[^`]*` \|", README, flags=re.M)
    own = [name for name in cli._parser()._subparsers._group_actions[0].choices if name != "config"]  # type: ignore[union-attr,arg-type]
    table = [row for row in rows if row.split()[0] in own or " " in row]
    assert list(dict.fromkeys(table))[: len(own) + 3] == [*own, "config show", "config check", "config schema"]


@pytest.mark.parametrize("block", blocks("console"), ids=lambda block: block.partition("\n")[0])
def test_what_a_command_is_said_to_print_is_what_it_prints(
    folder: Path, capsys: pytest.CaptureFixture[str], block: str
) -> None:
    command, _, told = block.partition("\n")
    cli.main(shlex.split(command.removeprefix("$ pansite ")))
    printed = capsys.readouterr()
    assert (printed.out + printed.err) == told


def test_the_experiments_it_tells_to_write_hold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(path.name for path in folder.glob("*.yaml"))
    assert files == ["cluster.yaml", "flips.yaml", "mine.yaml", "mine_study.yaml", "one_factor.yaml", "wrong.yaml"]
    assert cli.main(["config", "check", "mine.yaml"]) == 0
    assert cli.main(["config", "check", "flips.yaml"]) == 0
    assert cli.main(["config", "check", "one_factor.yaml"]) == 0
    assert cli.main(["config", "check", "wrong.yaml"]) == 2
    (folder / "queued.yaml").write_text("extends: [mine.yaml, cluster.yaml]\n", encoding="utf-8")
    cluster = load_experiment(folder / "queued.yaml").config.cluster
    assert (cluster.chosen().partition, cluster.profiles["debug"].time) == ("gpu", "30")


def test_the_table_of_layouts_is_what_the_layouts_say() -> None:
    for name in LAYOUTS.names():
        config = LAYOUTS.config_class(name)
        rows = re.findall(rf"^\| `{name}` \|.*$", README, flags=re.M)
        if name in ("manifest", "phantom", "auto", "chaos"):
            assert rows == []
            continue
        (row,) = rows
        _, _, data, folder, ids, cases, cite, contains, _ = (cell.strip() for cell in row.split("|"))
        about = config.about
        assert (data, folder.replace("`", ""), contains) == (about.title, about.folder, about.contains)
        assert cases == ("" if about.cases is None else f"{about.cases:,}")
        assert ids == (", ".join(map(str, config().labels)) or "by name")
        assert unquote(cite) == "[{}]({})".format(*about.citation.rsplit(", ", 1))


def test_every_file_it_names_is_there() -> None:
    named = set(re.findall(rf"`((?:{'|'.join(map(re.escape, ROOMS))})/[\w./-]*|LICENSE|CITATION\.cff)`", README))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (HOUSE / name).exists()] == []
    bases = set(re.findall(r"bases/\w+\.yaml", README))
    assert bases
    assert [name for name in sorted(bases) if not (SHIPPED / name).is_file()] == []
    links = re.findall(r"\]\((?!#|https?:)([^)]+)\)", README)
    assert "experiments/pictures/demo.png" in links
    assert not [link for link in links if not (HOUSE / link).is_file()]


def test_every_link_within_it_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", README, flags=re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_every_target_of_make_it_names_is_there() -> None:
    makefile = (HOUSE / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, flags=re.M))
    assert set(re.findall(r"(?:`|^)make (\w+)", README, flags=re.M)) <= targets
