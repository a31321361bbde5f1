"""The ledger: every evaluation on held-out sites, a line each, in ``ledger.jsonl`` in the store's folder.

A look is a site's cases, by content, under certain weights and settings of inference. It is written down before the
first of them is predicted (``begun``) and again with what was found (``done``); to go on with one, or to do one again
that is all there, is no new look. So can be told how often a site was looked at before: a result on a site that has
been looked at a hundred times is worth less than one on a fresh one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callbacks.rows import Evaluation
from datamodules.errors import UsageError
from experiments.environment import commit
from experiments.run_folder import RunFolder

FILE = "ledger.jsonl"
DIGITS = 16
"""Of the hashes that a line holds."""

Entry = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """One site under certain weights.

    Attributes:
        key: the same for the same cases, weights and settings of inference.
        cases: the digest of each, by id.
    """

    key: str
    cases: dict[str, str]


@dataclass(frozen=True)
class Ledger:
    """The ledger of a store.

    Attributes:
        path: its file; it need not be there yet.
    """

    path: Path

    @classmethod
    def of_store(cls, store: str) -> Ledger:
        """The ledger in the folder ``data.store``."""
        return cls(Path(store).expanduser() / FILE)

    def entries(self) -> list[Entry]:
        """All entries, oldest first; what a killed process or a full disk has left of a line is passed over."""
        if not self.path.is_file():
            return []
        found = []
        for line in self.path.read_bytes().split(b"\n"):
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("sites"), dict):
                    found.append(entry)
        return found

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry: all of it in one write, on disk when this returns, whoever else writes at the time.

        Raises:
            UsageError: it can't be written; an evaluation that is not in the ledger is not to be made.
        """
        line = json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                _append(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UsageError(
                f"{self.path}: the ledger of evaluations can't be written to ({error.strerror or error}), and no "
                f"evaluation is made without; make room or set data.store to a folder that can."
            ) from error

    def begin(self, run: RunFolder, evaluation: Evaluation) -> dict[str, int]:
        """Write down the looks that an evaluation is about to take, unless they are there.

        Returns:
            by held-out site, under how many other weights or settings any of its cases was looked at before.
        """
        looks = looks_of(evaluation)
        entries = self.entries()
        known = {site["look"] for entry in entries for site in entry["sites"].values()}
        if new := {site: look for site, look in looks.items() if look.key not in known}:
            sites = {site: {"look": look.key, "cases": look.cases} for site, look in new.items()}
            self.append({"event": "begun", **_described(run, evaluation), "sites": sites})
        own = evaluation.look[:DIGITS]
        return {site: earlier_looks(entries, look, own) for site, look in looks.items()}

    def finish(self, run: RunFolder, evaluation: Evaluation, summary: Mapping[str, Any]) -> None:
        """Write down what was found of the looks of an evaluation, unless it is there."""
        done = {
            site["look"] for entry in self.entries() if entry.get("event") == "done" for site in entry["sites"].values()
        }
        sites = {
            site: {"look": look.key, "n": len(look.cases), "dice": summary["sites"][site]["dice"]["mean"]}
            for site, look in looks_of(evaluation).items()
            if look.key not in done
        }
        if sites:
            macro = summary["held_out_macro"].get("dice")
            self.append({"event": "done", **_described(run, evaluation), "held_out_macro": macro, "sites": sites})


def looks_of(evaluation: Evaluation) -> dict[str, Look]:
    """The look at each held-out site that an evaluation takes."""
    found = {}
    for site in (site for site, role in evaluation.roles.items() if role == "held_out"):
        cases = {record.case: record.digest[:DIGITS] for record in evaluation.records if record.site == site}
        if cases:
            # By content: what a site or a case is called does not matter.
            parts = [evaluation.look, sorted(cases.values())]
            found[site] = Look(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:DIGITS], cases)
    return found


def earlier_looks(entries: list[Entry], look: Look, evaluation: str) -> int:
    """Under how many other weights or settings any of its cases was looked at, before it was itself.

    Args:
        entries: oldest first.
        look: at a site.
        evaluation: what the entries of its own evaluation say it is.
    """
    wanted, found = set(look.cases.values()), set()
    for entry in entries:
        if entry.get("event") != "begun":
            continue
        sites = entry["sites"].values()
        if any(site["look"] == look.key for site in sites):
            break
        if entry["evaluation"] != evaluation and any(wanted & set(site["cases"].values()) for site in sites):
            found.add(entry["evaluation"])
    return len(found)


def _described(run: RunFolder, evaluation: Evaluation) -> Entry:
    git = commit()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "run": str(run.path.absolute()),
        "commit": None if git is None else git["commit"],
        "checkpoint": evaluation.checkpoint["sha256"][:DIGITS],
        "step": evaluation.checkpoint.get("step"),
        "configuration": hashlib.sha256(run.config.read_bytes()).hexdigest()[:DIGITS],
        "evaluation": evaluation.look[:DIGITS],
    }


def _append(descriptor: int, line: bytes) -> None:
    # A file system without locks still has whole writes at the end.
    with suppress(OSError):
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line  # what stands there was torn off: it is to spoil itself alone
    written = os.write(descriptor, line)
    if written < len(line):
        os.ftruncate(descriptor, size)
        raise OSError("the disk is full")
    os.fsync(descriptor)
