"""What a person brings that can't be used costs them one sentence: exit code 2, nothing lost, nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch

from datamodules.layouts.phantom import PhantomSite, cases
from tests.conftest import Tiny
from tests.datamodules.faulty_site import KEPT, REASONS, write_faulty_site

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def own(tiny: Tiny, tmp_path: Path) -> Path:
    """A manifest of four good cases, and a fifth row for what is bad: ``bad.nii.gz`` and ``bad_label.nii.gz``."""
    source = PhantomSite(name="source", site="source", cases=4, root=str(tiny.phantoms))
    rows = ["case,image,label"]
    for case in cases(source):
        source.materialise(case)
        rows.append(f"{case.case},{case.image},{case.label}")
    first = cases(source)[0]
    assert first.label is not None
    shutil.copy(first.image, tmp_path / "bad.nii.gz")
    shutil.copy(first.label, tmp_path / "bad_label.nii.gz")
    rows.append("bad,bad.nii.gz,bad_label.nii.gz")
    (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_every_bad_case_is_left_out_by_name_with_the_reason_and_the_rest_goes_on(
    tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    site = write_faulty_site(tmp_path / "site")
    code, out, err = pansite(
        "prepare", tiny.file, "data.held_out={}", f"data.store={tmp_path / 'store'}",
        f"data.source={{name: own, layout: manifest, root: {site.root}, labels: [7]}}",
    )  # fmt: skip
    assert code == 0, err
    lines = out.splitlines()
    for case, words in REASONS.items():
        (line,) = [line for line in lines if line.startswith(f"  own/{case} is left out: ")]
        assert words in line
    assert out.count("is left out") == len(REASONS)
    assert f"own: {len(KEPT)} cases" in out
    assert "Traceback" not in out + err
    assert not list((tmp_path / "store").rglob("*.part"))

    # What a stranger called a case is text in the data card, and no file lies where a name points to.
    (card,) = [Path(line.removeprefix("data card: ")) for line in lines if line.startswith("data card: ")]
    html = card.read_text("utf-8")
    assert "&lt;img src=x" in html
    assert "<img src=x" not in html
    assert "\x1b" not in out + html
    made = {path.parent for path in tmp_path.rglob("record.json")}
    assert {folder.name for folder in made} == set(KEPT)
    assert all(folder.is_relative_to(tmp_path / "store") for folder in made)


@pytest.mark.parametrize("name", ["../../out", "a/b", "..", "x\ny", ".hidden", "\x1b[2J"])
def test_a_case_id_that_leads_elsewhere_is_refused(name: str, tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(f'case,image,label\n"{name}",a.nii.gz,b.nii.gz\n')
    site = f"data.source={{name: own, layout: manifest, root: {tmp_path / 'cases.csv'}}}"
    code, out, err = pansite("prepare", tiny.file, "data.held_out={}", site, f"data.store={tmp_path / 'store'}")
    assert code == 2
    assert f"the case id {name!r} can't be a folder's name" in err
    assert "\x1b" not in out + err
    assert [path.name for path in tmp_path.iterdir()] == ["cases.csv"]


def test_fit_and_evaluate_name_the_cases_that_they_leave_out(own: Path, tiny: Tiny, pansite: Command) -> None:
    (own / "bad.nii.gz").write_bytes(b"no image")
    west = PhantomSite(name="west", site="west", cases=1, root=str(tiny.phantoms))
    (case,) = cases(west)
    west.materialise(case)
    rows = ["case,image,label", f"good,{case.image},{case.label}", "bad,bad.nii.gz,bad_label.nii.gz"]
    (own / "theirs.csv").write_text("\n".join(rows) + "\n")
    code, out, err = pansite(
        "fit", tiny.file, f"run.root={own / 'runs'}", "trainer.max_steps=1",
        f"data.source={{name: own, layout: manifest, root: {own / 'cases.csv'}, labels: [1]}}",
        f"data.held_out={{theirs: {{layout: manifest, root: {own / 'theirs.csv'}, labels: [1]}}}}",
    )  # fmt: skip
    assert code == 0, err
    assert "own/bad is left out: " in out
    code, out, err = pansite("evaluate", own / "runs" / "tiny")
    assert code == 0, err
    assert "theirs/bad is left out: " in out


def test_a_site_that_keeps_no_case_ends_the_command(own: Path, tiny: Tiny, pansite: Command) -> None:
    (own / "bad.nii.gz").write_bytes(b"no image")
    (own / "cases.csv").write_text("case,image,label\nbad,bad.nii.gz,bad_label.nii.gz\n")
    site = f"data.source={{name: own, layout: manifest, root: {own / 'cases.csv'}}}"
    code, _, err = pansite("fit", tiny.file, site, f"data.store={own / 'store'}", f"run.root={own / 'runs'}")
    assert code == 2
    assert "'own'" in err
    assert "bad" in err
    assert not (own / "runs").exists()


def test_a_patch_larger_than_the_volumes_is_padded_and_that_is_said(
    tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}", "data.patch_size=[64, 64, 64]", "trainer.max_steps=1")
    code, _, err = pansite(*words)
    assert code == 0, err
    (said,) = [line for line in err.splitlines() if "smaller than the patch" in line]
    assert said.startswith("warning: source: ")
    assert "are smaller than the patch of 64×64×64 voxels (data.patch_size)" in said

    # A checkpoint that is damaged is looked at more than once, and told once: a sentence, no place in our code.
    (last,) = tmp_path.glob("tiny/*/checkpoints/last.ckpt")
    last.write_bytes(b"damaged")
    code, _, err = pansite(*words)
    assert code == 0, err
    assert err.count(f"warning: {last}: ") == err.count("passed over") == 1
    assert "UserWarning" not in err
    assert "Notice" not in err
    assert ".py:" not in err


def short_of_room(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the disk be full whenever a file of one of these names is to take its place."""
    replace = os.replace

    def full(source: str, target: str | Path) -> None:
        if Path(target).name in names:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)


@pytest.mark.usefixtures("without_pages")
@pytest.mark.filterwarnings("ignore:.*the checkpoint of step 1 could not be written")
@pytest.mark.parametrize(
    "file", ["record.json", "split.json", "metrics.csv", "last.ckpt", "per_case.csv", "report.html"]
)
def test_a_full_disk_is_said_leaves_nothing_half_written_and_costs_no_more(
    file: str, tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", tiny.file, f"run.root={tmp_path / 'runs'}", "trainer.max_steps=1", "data.held_out={}"]
    if file == "record.json":
        words.append(f"data.store={tmp_path / 'store'}")
    short_of_room(monkeypatch, file)
    code, _, err = pansite(*words)
    assert code == 2
    assert "the disk is full" in err or "free some space" in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob(file))
    monkeypatch.undo()
    assert pansite(*words)[0] == 0
    if file != "record.json":
        assert len(list(tmp_path.rglob(file))) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become an unprivileged user")
def test_a_folder_that_may_not_be_written_to_is_named(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    """As nobody, in a fork: root may write anywhere."""
    from experiments.cli import main

    # All is imported here: nobody may not be allowed to read where Python is.
    assert pansite("prepare", tiny.file)[0] == 0
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    said = tmp_path / "said"
    child = os.fork()
    if child == 0:
        code = 70
        try:
            words = [f"run.root={closed}", f"data.store={closed}", "data.held_out={}"]
            with said.open("w") as file, redirect_stderr(file):
                os.setgid(65534)
                os.setuid(65534)
                code = main(["fit", "phantom_quick", *words, f"data.source.root={closed}"])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert str(closed) in said.read_text()
    assert "Traceback" not in said.read_text()
    assert not list(closed.iterdir())


def test_what_is_no_run_and_what_is_no_checkpoint_of_ours_is_refused(
    tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    code, _, err = pansite("evaluate", tmp_path)
    assert code == 2
    assert "holds no run" in err
    assert pansite("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=1")[0] == 0
    (run,) = [path for path in (tmp_path / "tiny").iterdir() if path.is_dir()]
    for checkpoint in (run / "checkpoints").glob("*.ckpt"):
        checkpoint.write_bytes(b"a picture of a cat")
    code, _, err = pansite("evaluate", run, "checkpoint=last")
    assert code == 2
    assert "last.ckpt" in err
    assert "Traceback" not in err


def test_a_checkpoint_of_strangers_is_neither_continued_nor_evaluated_nor_started_from(
    tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    words = ("fit", tiny.file, f"run.root={tmp_path}", "trainer.max_steps=2")
    assert pansite(*words)[0] == 0
    (run,) = [path for path in (tmp_path / "tiny").iterdir() if path.is_dir()]
    stranger = tmp_path / "stranger.ckpt"
    torch.save({"state_dict": {"layer.weight": torch.zeros(3)}, "global_step": 1}, stranger)
    for old in (run / "checkpoints").glob("*.ckpt"):
        old.unlink()
    for name in ("last", "best"):
        shutil.copy(stranger, run / "checkpoints" / f"{name}.ckpt")
    for command in (words, ("evaluate", run), (*words, f"model.init={stranger}")):
        code, _, err = pansite(*command)
        assert code == 2
        assert ".ckpt" in err
        assert "Traceback" not in err
        assert len(err) < 400
    # What could not begin has left no folder behind.
    assert [path for path in run.parent.iterdir() if path.is_dir()] == [run]
