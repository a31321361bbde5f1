"""A checkpoint is there whole or not at all, and the one before it is never lost."""

from __future__ import annotations

import errno
import os
import resource
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.checkpoint_io import KillSafeCheckpointIO, latest, previous, read_checkpoint
from datamodules.errors import UsageError

InChild = Callable[[Callable[[], Any]], int]


def checkpoint(step: int, numbers: int = 1000) -> dict[str, Any]:
    return {"global_step": step, "state_dict": {"w": torch.full((numbers,), float(step))}}


def save(path: Path, step: int, numbers: int = 1000) -> KillSafeCheckpointIO:
    io = KillSafeCheckpointIO()
    io.save_checkpoint(checkpoint(step, numbers), path)
    return io


def step_of(path: Path | None) -> int:
    assert path is not None
    loaded = read_checkpoint(path)
    assert loaded["state_dict"]["w"].eq(loaded["global_step"]).all()
    return int(loaded["global_step"])


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    for step in (1, 2, 3):
        save(last, step)
    assert (step_of(last), step_of(previous(last))) == (3, 2)
    assert sorted(p.name for p in last.parent.iterdir()) == ["last.ckpt", "last.prev.ckpt"]


def test_nothing_is_staged_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap: staged in $TMPDIR, a move across file systems is a copy that a kill cuts in two."""
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setattr("tempfile.tempdir", None)
    last = tmp_path / "last.ckpt"
    assert save(last, 5).failure is None
    assert step_of(last) == 5


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_damaged_newest_gives_way_to_the_one_before_aloud(tmp_path: Path, damage: bytes | None) -> None:
    last = tmp_path / "last.ckpt"
    save(last, 1)
    save(last, 2)
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2] if damage is None else damage)
    io = KillSafeCheckpointIO()
    with pytest.warns(UserWarning, match=r"last\.ckpt: can't be loaded.*last\.prev\.ckpt, of step 1"):
        assert io.load_checkpoint(last)["global_step"] == 1
    with pytest.warns(UserWarning, match="passed over"):
        assert latest(tmp_path) == previous(last)
    io.save_checkpoint(checkpoint(3), last)
    assert (step_of(last), step_of(previous(last))) == (3, 1), "a damaged file must not replace a good one"


def test_latest_goes_by_step_and_not_by_time(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    save(previous(last), 7)
    save(last, 4)
    os.utime(previous(last), (1, 1))
    assert latest(tmp_path) == previous(last)
    assert latest(tmp_path, "best") is None


def test_nothing_loadable_is_one_sentence(tmp_path: Path) -> None:
    foreign = tmp_path / "last.ckpt"
    foreign.write_text("not a checkpoint")
    with pytest.raises(UsageError, match=r"last\.ckpt: can't be loaded as a checkpoint"):
        KillSafeCheckpointIO().load_checkpoint(foreign)
    torch.save({"weights": torch.zeros(1)}, foreign)
    with pytest.raises(UsageError, match="not a checkpoint of a model"):
        KillSafeCheckpointIO().load_checkpoint(foreign)
    with pytest.raises(UsageError, match="no such checkpoint"):
        KillSafeCheckpointIO().load_checkpoint(tmp_path / "missing.ckpt")


class Payload:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_stranger_s_checkpoint_executes_nothing(tmp_path: Path) -> None:
    bad, proof = tmp_path / "last.ckpt", tmp_path / "executed"
    torch.save({"state_dict": {}, "global_step": 1, "payload": Payload(proof)}, bad)
    with pytest.raises(UsageError, match="can't be loaded"):
        KillSafeCheckpointIO().load_checkpoint(bad, weights_only=False)
    assert not proof.exists()


@pytest.mark.parametrize("call", ["os.fsync", "os.link", "os.replace", "tempfile.mkstemp"])
def test_a_full_disk_costs_the_new_checkpoint_and_never_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    last = tmp_path / "last.ckpt"
    save(last, 1)
    save(last, 2)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    io = KillSafeCheckpointIO()
    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        if call == "os.link":  # no fault: another way is taken where links can't be had
            io.save_checkpoint(checkpoint(3), last)
            assert io.failure is None
            assert (step_of(last), step_of(previous(last))) == (3, 2)
            return
        with pytest.warns(UserWarning, match=r"step 3 could not be written .*No space left"):
            io.save_checkpoint(checkpoint(3), last)
    assert io.failure is not None
    assert step_of(last) == 2
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".part"]
    io.save_checkpoint(checkpoint(4), last)
    assert io.failure is None
    assert step_of(last) == 4


def test_a_write_that_ends_in_the_middle_costs_nothing(tmp_path: Path, in_child: InChild) -> None:
    """A real fault of the kernel (file size limit) after part of the bytes."""
    last = tmp_path / "last.ckpt"
    save(last, 1)

    def work() -> None:
        warnings.simplefilter("ignore")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        assert save(last, 2, numbers=200_000).failure is not None

    assert in_child(work) == 0
    assert step_of(last) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("moment", [("fsync", 1), ("fsync", 2), ("link", 1), ("replace", 1)])
def test_killed_in_the_middle_of_a_write(tmp_path: Path, in_child: InChild, moment: tuple[str, int]) -> None:
    last = tmp_path / "last.ckpt"
    save(last, 1)
    save(last, 2)

    def work() -> None:
        call, count = moment
        original, seen = getattr(os, call), 0

        def killed(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(os, call, killed)
        save(last, 3)

    assert in_child(work) == -signal.SIGKILL
    assert step_of(latest(tmp_path)) == 2
    save(last, 4)
    assert step_of(latest(tmp_path)) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "last.prev.ckpt"], "leftovers are swept"


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """A child that saves as fast as it can is killed again and again; what stands always loads and never ages."""
    last, reached = tmp_path / "last.ckpt", 0
    for wait_ms in (1, 3, 5, 8, 13, 21):
        child = os.fork()
        if child == 0:
            step = reached
            while True:
                step += 1
                save(last, step, numbers=300_000)
        while not last.is_file():
            pass
        signal.sigtimedwait([], wait_ms / 1000)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        step = step_of(latest(tmp_path))
        assert step >= reached
        reached = step
    assert reached > 0
