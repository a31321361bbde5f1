"""``pansite study run``: what is missing of a study, computed cell by cell, side by side where that is possible."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from callbacks.requests import Request, Stopped
from datamodules.atomic import write_text
from datamodules.errors import UsageError
from experiments import status, submit
from experiments.machine import Share, shares
from experiments.signals import SIGNALS
from experiments.study import records
from experiments.study.cells import Cell, alike, chosen, lay_out
from experiments.study.config import Look, find_study, load_study
from experiments.study.finished import Known, find_run, look_up
from experiments.study.records import Record, time_taken
from experiments.study.workers import POLL, Job, ended, hold, time_before


@dataclass(frozen=True)
class Options:
    """What is asked of ``pansite study run``.

    Attributes:
        look: at which sites; None for the study's own.
        results: the folder above those of the studies' cells; None for the one that the study lies in.
        only: methods; none for all.
        limit: at most so many cells; None for all.
        jobs: side by side; None for as many as cores or GPUs allow.
        submit: queue them on a SLURM cluster instead.
        dry_run: only say what would be done.
    """

    look: Look | None = None
    results: Path | None = None
    only: tuple[str, ...] = ()
    limit: int | None = None
    jobs: int | None = None
    submit: bool = False
    dry_run: bool = False


def run(name: str, overrides: Sequence[str], options: Options) -> int:
    """Compute what is missing of a study.

    Raises:
        UsageError: a fault of the study, or cells that failed; the others are done.
        Stopped: a signal has asked for it; what is begun goes on by the same command.
    """
    study = load_study(find_study(name))
    cells = chosen(lay_out(study, overrides, options.look), options.only)
    results = options.results or study.path.parent
    known = look_up(cells, results, keep=not options.dry_run)
    missing = [entry.cell for entry in known if entry.record is None]
    pending = list(alike(missing))[: options.limit]
    _tell(study.config.name, known, sum(map(len, pending)))
    if options.submit:
        return _submit(pending, options.dry_run)
    done = [entry.record for entry in known if entry.record is not None]
    if not pending:
        return 0
    places = shares(pending[0][0].config.trainer, options.jobs, most=len(pending))
    _tell_estimate(done, pending, len(places))
    if options.dry_run:
        for group in pending:
            print("  " + ", ".join(cell.name for cell in group))
        return 0
    _Runner(pending, places, results, done).work()
    return 0


class _Runner:
    """Works off groups of like cells."""

    def __init__(
        self, pending: Sequence[Sequence[Cell]], places: Sequence[Share], results: Path, done: list[Record]
    ) -> None:
        self._pending = list(pending)
        self._free = list(places)
        self._places = len(places)
        self._results = results
        self._done = done
        self._jobs: list[Job] = []
        self._failed: list[str] = []
        self._waiting = False

    def work(self) -> None:
        """Until all are done.

        Raises:
            UsageError: some have failed.
            Stopped: a signal has asked for it.
        """
        SIGNALS.defer()
        with SIGNALS.released():
            while self._pending or self._jobs:
                if SIGNALS.requested():
                    self._stop(Request(SIGNALS.requested()))
                self._begin()
                for job, code in list(ended(self._jobs)):
                    self._end(job, code)
                time.sleep(POLL)
        if self._failed:
            several = f"{len(self._failed)} cells have failed; the same command tries them again. First: "
            raise UsageError((several if len(self._failed) > 1 else "") + self._failed[0])

    def _begin(self) -> None:
        for group in list(self._pending):
            if not self._free:
                return
            lock = hold(group[0])
            if lock is None:
                continue
            # Another process may have done it meanwhile.
            found = look_up(group, self._results)
            if all(entry.record is not None for entry in found):
                lock.close()
                self._pending.remove(group)
                self._done += [entry.record for entry in found if entry.record is not None]
                print(f"{group[0].name}: done by another process", flush=True)
                continue
            job = Job(group, self._free[0], lock)
            self._free.pop(0)
            self._pending.remove(group)
            self._jobs.append(job)
            print(f"{job.cell.name}: begun, {job.threads} thread{'s' * (job.threads > 1)}; log {job.log}", flush=True)
        if self._pending and not self._jobs and not self._waiting:
            self._waiting = True
            print(f"waiting for another process that computes {self._pending[0][0].name}", flush=True)

    def _end(self, job: Job, code: int) -> None:
        self._jobs.remove(job)
        self._free.append(job.share)
        try:
            self._record(job, code)
        finally:
            job.release()

    def _record(self, job: Job, code: int) -> None:
        if code:
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._fail(job, f"{job.last_words()} ({reason}; {job.log})")
            return
        finished = find_run(job.cell)
        if finished is None:
            self._fail(job, f"its run can't be found any more ({job.log})")
            return
        job.conclude(finished)
        try:
            for cell in job.cells:
                record = records.of_run(cell, finished, self._results, job.seconds)
                records.write(record)
                self._done.append(record)
        except UsageError as error:
            self._fail(job, str(error))
            return
        places = min(self._places, max(1, len(self._pending) + len(self._jobs)))
        rest = [*self._pending, *(running.cells for running in self._jobs)]
        print(f"{job.cell.name}: held-out Dice {record.dice():.3f}, {time_taken(job.seconds)}", flush=True)
        _tell_estimate(self._done, rest, places)

    def _fail(self, job: Job, reason: str) -> None:
        self._failed.append(f"{job.cell.name}: {reason}")
        print(f"{job.cell.name}: failed: {reason}", flush=True)

    def _stop(self, request: Request) -> None:
        for job in self._jobs:
            job.stop(request)
        for job in self._jobs:
            while job.poll() is None:
                time.sleep(POLL)
            job.release()
        raise Stopped(request)


def _tell(name: str, known: Sequence[Known], pending: int) -> None:
    cell = known[0].cell
    sites = ", ".join(dict.fromkeys(site for entry in known for site in entry.cell.config.data.held_out))
    done = sum(entry.record is not None for entry in known)
    print(f"{name}, look {cell.look} ({sites}): {len(known)} cells, {done} done, {pending} to compute", flush=True)
    for entry in known:
        if entry.taken:
            print(f"  {entry.cell.name}: {entry.taken}")
        if entry.stale:
            print(f"  {entry.cell.name} is stale: {entry.stale}")


def remaining(done: Sequence[Record], groups: Sequence[Sequence[Cell]], places: int) -> float | None:
    """Seconds until the rest is done, by what cells of the same method have taken, else any; None without any done."""
    by_method: dict[str, list[float]] = {}
    for record in done:
        if record.head.seconds is not None:
            by_method.setdefault(record.head.method, []).append(record.head.seconds)
    known = {method: sum(times) / len(times) for method, times in by_method.items()}
    if not known:
        return None
    usual = sum(known.values()) / len(known)
    left = [max(0.0, known.get(group[0].method, usual) - (time_before(group[0]) or 0.0)) for group in groups]
    return max([sum(left) / places, *left])


def _tell_estimate(done: Sequence[Record], groups: Sequence[Sequence[Cell]], places: int) -> None:
    seconds = remaining(done, groups, places)
    if groups and seconds is not None:
        print(f"  {sum(map(len, groups))} to go, about {time_taken(seconds)}", flush=True)


def _submit(pending: Sequence[Sequence[Cell]], dry_run: bool) -> int:
    """Queue what is not queued yet; once it has run, ``study table`` or ``study run`` writes its records."""
    queued = status.jobs() or {}
    files, waiting = [], 0
    for group in pending:
        cell = group[0]
        if _is_queued(cell, queued):
            waiting += len(group)
            continue
        file = cell.work / f"{cell.name}.yaml"
        write_text(file, cell.yaml)
        files.append(str(file))
    if waiting:
        print(f"  {waiting} of them are in the queue already")
    return submit.submit(files, [], [], dry_run) if files else 0


def _is_queued(cell: Cell, queued: dict[str, str]) -> bool:
    """Whether a submitted job of this very cell waits or runs, or one of its array does."""
    folder = Path(cell.config.run.root) / submit.FOLDER
    for record in folder.glob(f"*/{submit.RECORD}"):
        copy = record.parent / f"{cell.name}.yaml"
        try:
            job = str(json.loads(record.read_text(encoding="utf-8"))["job"])
            same = copy.read_text(encoding="utf-8") == cell.yaml
        except (OSError, ValueError, KeyError):
            continue
        if same and any(name.partition("_")[0] == job for name in queued):
            return True
    return False
