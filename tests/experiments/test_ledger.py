"""The ledger keeps every look at a held-out site, whoever writes at the same time and whoever dies of it."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from callbacks import rows
from callbacks.rows import Evaluation
from datamodules.errors import UsageError
from datamodules.store import CaseRecord
from experiments.ledger import Ledger
from experiments.report.words import looks as in_words
from experiments.run_folder import RunFolder


def _record(site: str, case: str, digest: str) -> CaseRecord:
    affine = [[float(i == j) for j in range(4)] for i in range(4)]
    return CaseRecord(
        site=site, case=case, patient=case, shape=(1, 1, 1), spacing=(1.0, 1.0, 1.0), affine=affine,
        native_shape=(1, 1, 1), native_affine=affine, image_path="", label_path=None, labels=[], digest=digest * 20,
        fingerprint="", pancreas_volume_ml=0.0, warnings=[],
    )  # fmt: skip


def _evaluation(folder: Path, weights: str, **sites: str) -> Evaluation:
    """Of such weights on sites whose cases have these digests, a letter each."""
    return Evaluation(
        folder=folder,
        checkpoint={"name": "best.ckpt", "step": 7, "sha256": weights * 64},
        inference={"overlap": 0.5},
        roles={"home": "source_test", **dict.fromkeys(sites, "held_out")},
        records=[
            _record("home", "h", "z"),
            *(_record(site, f"case{n}", d) for site, digests in sites.items() for n, d in enumerate(digests)),
        ],
    )


def _summary(**dice: float) -> dict[str, object]:
    return {"sites": {site: {"dice": {"mean": value}} for site, value in dice.items()}, "held_out_macro": {"dice": 0.5}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: x\n")
    return RunFolder(tmp_path / "run")


def test_other_weights_are_a_look_and_the_same_ones_are_none(run: RunFolder, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "store" / "ledger.jsonl")
    first = _evaluation(tmp_path, "a", north="pq", west="r")
    assert ledger.begin(run, first) == {"north": 0, "west": 0}
    assert ledger.begin(run, first) == {"north": 0, "west": 0}
    ledger.finish(run, first, _summary(north=0.7, west=0.3))
    ledger.finish(run, first, _summary(north=0.7, west=0.3))
    begun, done = ledger.entries()
    assert begun["event"] == "begun"
    assert begun["sites"]["north"]["cases"] == {"case0": "p" * 16, "case1": "q" * 16}
    assert "home" not in begun["sites"]
    assert (done["event"], done["sites"]["west"]["dice"], done["held_out_macro"]) == ("done", 0.3, 0.5)
    assert {"time", "run", "commit", "checkpoint", "configuration", "step"} <= set(begun)

    assert ledger.begin(run, _evaluation(tmp_path, "b", north="pq")) == {"north": 1}
    flipped = replace(first, inference={"overlap": 0.5, "flips": True})
    assert ledger.begin(run, flipped) == {"north": 2, "west": 1}
    # The first ones stay what they were, and a site is known by its cases whatever it is called.
    assert ledger.begin(run, first) == {"north": 0, "west": 0}
    assert ledger.begin(run, _evaluation(tmp_path, "c", renamed="xp", other="s")) == {"renamed": 3, "other": 0}
    # Two sites of one evaluation that share a scan are looked at once.
    assert ledger.begin(run, _evaluation(tmp_path, "d", one="u", two="u")) == {"one": 0, "two": 0}


def test_to_measure_more_of_the_same_predictions_is_no_new_look(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    first = _evaluation(tmp_path, "a", north="p")
    assert first.look == "34eed93458b2f0dd2727ca88f7efd815", "ledgers that are there hold it"
    ledger.begin(run, first)
    before = first.key
    monkeypatch.setattr(rows, "FORMAT", rows.FORMAT + 1)
    assert first.key != before
    assert ledger.begin(run, first) == {"north": 0}
    assert len(ledger.entries()) == 1


def test_a_site_added_later_is_the_only_new_look(run: RunFolder, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.begin(run, _evaluation(tmp_path, "a", north="p"))
    ledger.begin(run, _evaluation(tmp_path, "a", north="p", hill="q"))
    assert [sorted(entry["sites"]) for entry in ledger.entries()] == [["north"], ["hill"]]


def test_a_line_that_was_torn_off_spoils_itself_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"n": 1, "sites": {}})
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + whole[:9])
    ledger.append({"n": 2, "sites": {}})
    ledger.path.write_bytes(ledger.path.read_bytes() + b"\xff\x00[]\n")
    ledger.append({"n": 3, "sites": {}})
    assert [entry["n"] for entry in ledger.entries()] == [1, 2, 3]


def test_many_processes_that_are_killed_lose_nothing_that_was_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    told, tell = os.pipe()
    chance = random.Random(3)
    children = [_writer(ledger, number, tell) for number in range(6)]
    os.close(tell)
    said: set[tuple[int, ...]] = set()
    with os.fdopen(told, "rb") as pipe:
        while len({who for who, _ in said}) < len(children):
            said.add(tuple(map(int, pipe.readline().split())))
        for child in chance.sample(children, len(children)):
            time.sleep(chance.uniform(0.01, 0.1))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        said |= {tuple(map(int, line.split())) for line in pipe.read().splitlines()}
    found = [(entry["who"], entry["n"]) for entry in ledger.entries()]
    assert said <= set(found)
    assert len(found) == len(set(found))
    assert all(entry["filler"] == "x" * 3000 for entry in ledger.entries())


def _writer(ledger: Ledger, who: int, tell: int) -> int:
    """A process that writes entries until it is killed, and tells of each once it is written."""
    child = os.fork()
    if child == 0:
        try:
            n = 0
            while True:
                ledger.append({"who": who, "n": n, "sites": {}, "filler": "x" * 3000})
                os.write(tell, f"{who} {n}\n".encode())
                n += 1
        finally:
            os._exit(1)
    return child


def test_what_can_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"the ledger of evaluations can't be written to"):
        Ledger(tmp_path / "file" / "ledger.jsonl").append({"sites": {}})
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"n": 1, "sites": {}})
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:5]))
    with pytest.raises(UsageError, match="the disk is full"):
        ledger.append({"n": 2, "sites": {}})
    monkeypatch.undo()
    assert len(ledger.path.read_bytes().splitlines()) == 1


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ({}, ""),
        ({"a": 0}, "This held-out site had never been looked at before."),
        ({"a": 2, "b": 2}, "These held-out sites had been looked at twice before."),
        ({"a": 0, "b": 14}, "Before this evaluation the held-out sites had been looked at: b 14 times, a never."),
    ],
)
def test_looks_are_told_in_words(taken: dict[str, int], words: str) -> None:
    assert in_words(taken) == words
