"""A site into the store: its cases side by side, each whole or absent, a broken one named and the rest done.

The store's folders::

    <store>/<site>-<hash of the site's settings>/spacings.json            native spacings, by quick key
    <store>/<site>-<…>/.lock                                                held by the process that prepares it
    <store>/<site>-<…>/<hash of the preparation's settings>/preparation.json  what was found
    <store>/<site>-<…>/<…>/<case>/                                          see datamodules.store
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from datamodules.atomic import write_json
from datamodules.descriptions import complete, described
from datamodules.errors import CaseError, UsageError, one_line
from datamodules.json_files import known_json
from datamodules.layouts import LAYOUTS, Case, SiteConfig
from datamodules.layouts.site import remarks
from datamodules.overlap import Pair, Scan, find_pairs
from datamodules.pool import Killed, run_all
from datamodules.prepare_case import Outcome, Task, is_current, prepare_case, quick_key, writing
from datamodules.progress import bar
from datamodules.store import Spacing, StoredCase

if TYPE_CHECKING:
    from datamodules.config import StructureConfig

VERSION = 1
"""Counts changes of this software that alter what is stored."""
RULES = 2
"""Counts changes of what is refused: what older rules refused is looked at once more."""
REPORT = "preparation.json"
LOCK = ".lock"
"""In a site's folder, held by the process that prepares it."""
KILLED = "the process that prepared it was killed (out of memory?)"
ABANDONED = 24 * 3600
"""Seconds after which what a killed process left unfinished is cleared away."""


@dataclass(frozen=True)
class Preparation:
    """A site in the store.

    Attributes:
        site: its name.
        kept: the cases that can be used, by id.
        excluded: why each other case can't.
        reused: how many were already there.
        spacing: mm along D, H, W of the stored grid.
        folder: the site's folder in the store, with the report.
        notes: what is to be said of the site as a whole, one sentence each.
        pairs: cases that are one scan, by content.
    """

    site: str
    kept: list[StoredCase]
    excluded: dict[str, str]
    reused: int
    spacing: Spacing
    folder: Path
    notes: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()


def prepare_site(
    site: SiteConfig,
    spacing: Spacing | None,
    structure: StructureConfig,
    store: Path,
    processes: int = 1,
    labelled: bool = True,
    progress: bool = True,
) -> Preparation:
    """Bring every case of a site into the store that is not there yet.

    Args:
        site: its name, layout and root.
        spacing: mm along D, H, W; None takes the median of the site's own cases, which is for the source alone.
        structure: how the spatial structure is computed.
        store: the store's folder.
        processes: how many cases at once.
        labelled: exclude cases without a label; else labels are not read.
        progress: show a bar.

    Raises:
        UsageError: the site has no cases or keeps none, or the store can't be written to.
    """
    site, notes = site.settled()
    cases = LAYOUTS.build(site)
    notes += remarks(site, cases)
    return prepare_cases(site, cases, spacing, structure, store, processes, labelled, progress, notes)


def prepare_cases(
    site: SiteConfig,
    cases: Sequence[Case],
    spacing: Spacing | None,
    structure: StructureConfig,
    store: Path,
    processes: int = 1,
    labelled: bool = True,
    progress: bool = True,
    notes: Sequence[str] = (),
) -> Preparation:
    """As :func:`prepare_site`, for cases that are given rather than listed by the site's layout, and what to say."""
    store = store.expanduser()
    if type(site).__module__ == "__main__":
        processes = 1  # a layout of the user's own script is not known to other processes
    home = store / f"{_safe(site.name)}-{_site_hash(site)}"
    with writing(store):
        home.mkdir(parents=True, exist_ok=True)
    with _in_turn(home, site.name if progress else None):
        return _prepare_cases(site, cases, spacing, structure, store, home, processes, labelled, progress, notes)


def _prepare_cases(
    site: SiteConfig,
    cases: Sequence[Case],
    spacing: Spacing | None,
    structure: StructureConfig,
    store: Path,
    home: Path,
    processes: int,
    labelled: bool,
    progress: bool,
    notes: Sequence[str],
) -> Preparation:
    if spacing is None:
        spacing = median_spacing(site, cases, home, processes, labelled)
    spacing = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    folder = home / _settings_hash(spacing, labelled, structure)
    _clear_abandoned(folder)
    tasks = [Task(case, site, spacing, structure.axis, labelled, folder / case.case) for case in cases]
    outcomes = _prepare_all(site.name, tasks, _refusals(folder), processes, progress)
    kept = [StoredCase(task.folder) for task in tasks if outcomes[task.case.case].reason is None]
    _complete([case.folder for case in kept if not described(case)], processes)
    excluded = {case: outcome.reason for case, outcome in sorted(outcomes.items()) if outcome.reason is not None}
    reused = sum(outcome.reused for outcome in outcomes.values())
    notes = (*notes, *_placed_by_evidence(kept))
    report = {**_report(site, spacing, kept, outcomes), "notes": list(notes)}
    pairs = _pairs(kept, report, known_json(folder / REPORT) if reused == len(kept) else {})
    with writing(store):
        write_json(folder / REPORT, {**report, "same_scans": [pair.to_dict() for pair in pairs]})
    if not kept:
        first = "; ".join(f"{case}: {reason}" for case, reason in list(excluded.items())[:3])
        raise UsageError(f"site {site.name!r}: none of its {len(cases)} cases can be used: {first}")
    return Preparation(site.name, kept, excluded, reused, spacing, folder, notes, tuple(pairs))


@contextmanager
def _in_turn(home: Path, told: str | None) -> Iterator[None]:
    """Let one process after the other prepare a site: the first one does the work, the others find it done.

    Args:
        home: the site's folder.
        told: the site's name for whoever looks at it, None to wait without a word.
    """
    with writing(home):
        lock = (home / LOCK).open("a")
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if told is not None:
                console = Console(stderr=True, highlight=False, markup=False)
                console.print(f"waiting for another process that prepares {told}")
            fcntl.lockf(lock, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks: each does the work, and the first to finish a case wins.
            pass
        yield


def median_spacing(
    site: SiteConfig, cases: Sequence[Case], home: Path, processes: int = 1, labelled: bool = True
) -> Spacing:
    """Median native spacing in mm along left-right, posterior-anterior, inferior-superior, rounded to 1/1000.

    Over the cases whose headers can be read and whose label is there; read from headers, once for each file.

    Raises:
        UsageError: no case has a readable header.
    """
    path = home / "spacings.json"
    known = known_json(path)
    work = [(site, case, labelled, known.get(case.case)) for case in cases]
    found = {item[1].case: result for item, result in run_all(_native_spacing, work, processes)}
    read = {case: entry for case, entry in sorted(found.items()) if isinstance(entry, dict)}
    if read != known:
        with writing(home):
            write_json(path, read)
    spacings = [entry["spacing"] for entry in read.values() if "spacing" in entry]
    if not spacings:
        first = "; ".join(f"{case}: {entry['reason']}" for case, entry in list(read.items())[:3])
        raise UsageError(f"site {site.name!r}: none of its {len(cases)} cases can be used: {first}")
    median = np.median(np.array(spacings), axis=0).round(3)
    return float(median[0]), float(median[1]), float(median[2])


def _native_spacing(item: tuple[SiteConfig, Case, bool, dict[str, Any] | None]) -> dict[str, Any]:
    from datamodules.volume_files import read_grid

    site, case, labelled, known = item
    try:
        site.materialise(case)
        key = quick_key(case, labelled)
        if known is not None and known.get("key") == key:
            return known
        if case.fault is not None:
            return {"reason": case.fault}
        if labelled and (case.label is None or not case.label.exists()):
            return {"reason": "it has no label" if case.label is None else f"{case.label} does not exist"}
        return {"key": key, "spacing": list(read_grid(case.image).canonical_spacing())}
    except CaseError as error:
        return {"reason": one_line(str(error))}
    except UsageError:
        raise
    except Exception as error:  # what a file provokes is that case's fault, as in preparing it
        return {"reason": one_line(f"its header can't be read ({type(error).__name__}: {error})")}


def _prepare_all(
    site: str, tasks: list[Task], refused: dict[str, Outcome], processes: int, progress: bool
) -> dict[str, Outcome]:
    """The outcome of each case, by id."""
    outcomes: dict[str, Outcome] = {}
    todo: list[Task] = []
    for task in tasks:
        old = refused.get(task.case.case)
        if is_current(task):
            outcomes[task.case.case] = Outcome(None, reused=True)
        elif old is not None and old.key == quick_key(task.case, task.labelled):
            outcomes[task.case.case] = old
        else:
            todo.append(task)
    with bar(progress and bool(todo)) as shown:
        task_shown = shown.add_task(f"preparing {site}", total=len(todo))
        for task, result in run_all(prepare_case, todo, processes):
            outcomes[task.case.case] = Outcome(KILLED) if isinstance(result, Killed) else result
            shown.advance(task_shown)
    return outcomes


def _report(site: SiteConfig, spacing: Spacing, kept: list[StoredCase], outcomes: dict[str, Outcome]) -> dict[str, Any]:
    records = [case.record for case in kept]
    return {
        "site": site.name,
        "rules": RULES,
        "layout": site.layout,
        "root": site.root,
        "spacing": list(spacing),
        "kept": {
            record.case: {
                "patient": record.patient,
                "shape": list(record.shape),
                "native_shape": list(record.native_shape),
                "native_spacing": np.linalg.norm(np.array(record.native_affine)[:3, :3], axis=0).round(4).tolist(),
                "pancreas_volume_ml": record.pancreas_volume_ml,
                "warnings": record.warnings,
                **({"label_evidence": record.label_evidence} if record.label_evidence else {}),
            }
            for record in records
        },
        "excluded": {
            case: {"reason": outcome.reason, "key": outcome.key if outcome.lasting else ""}
            for case, outcome in sorted(outcomes.items())
            if outcome.reason is not None
        },
    }


def _placed_by_evidence(kept: Sequence[StoredCase]) -> list[str]:
    """How labels whose headers are not trusted were found to lie, over all cases of a site."""
    found = {c.record.case: c.record.label_evidence for c in kept if c.record.label_evidence}
    if not found:
        return []
    counts = Counter(evidence["flip"] for evidence in found.values())
    told = ", ".join(f"{flip} ({number} case{'s' * (number != 1)})" for flip, number in counts.most_common())
    least = min(found, key=lambda case: float(found[case]["margin"]))
    agree = sum(evidence["header_agrees"] for evidence in found.values())
    return [
        f"labels lie on their images, by HU, flipped along: {told}; the least margin is {found[least]['margin']:.2f} "
        f"({least}); their headers say the same of {agree}"
    ]


def _complete(folders: list[Path], processes: int) -> None:
    """Describe the cases that a store of before holds without a description of this version."""
    for folder, result in run_all(complete, folders, processes):
        if isinstance(result, Killed):
            raise UsageError(f"{folder}: {KILLED}: give the same command again with fewer data.workers.")


def _pairs(kept: Sequence[StoredCase], report: dict[str, Any], before: dict[str, Any]) -> list[Pair]:
    """The cases that are one scan, from the report of before where it is of the same cases."""
    scans = {case.record.case: Scan.of(case) for case in kept}
    if before.get("kept") == report["kept"] and "same_scans" in before:
        return [Pair.from_dict(entry, scans) for entry in before["same_scans"]]
    return find_pairs(list(scans.values()))


def site_folder(site: SiteConfig, spacing: Spacing, structure: StructureConfig, store: Path) -> Path | None:
    """Where the store holds a site that was prepared so, found without a look at the site itself.

    A site whose layout its folder tells (``auto``) stands there under the layout that it had, so that its root counts.

    Returns:
        The folder with the preparation report; None where the site is not prepared.
    """
    store = store.expanduser()
    wanted = _settings_hash((float(spacing[0]), float(spacing[1]), float(spacing[2])), True, structure)
    if (own := store / f"{_safe(site.name)}-{_site_hash(site)}" / wanted / REPORT).is_file():
        return own.parent
    if site.root:
        for report in sorted(store.glob(f"{_safe(site.name)}-*/{wanted}/{REPORT}")):
            if known_json(report).get("root") == site.root:
                return report.parent
    return None


def _settings_hash(spacing: Spacing, labelled: bool, structure: StructureConfig) -> str:
    return _hash({"version": VERSION, "spacing": spacing, "labelled": labelled, **asdict(structure)})


def _refusals(folder: Path) -> dict[str, Outcome]:
    """The cases that were refused for what is in their files."""
    report = known_json(folder / REPORT)
    entries = report.get("excluded", {}) if report.get("rules") == RULES else {}
    return {
        case: Outcome(entry["reason"], lasting=True, key=entry["key"])
        for case, entry in entries.items()
        if entry["key"]
    }


def _clear_abandoned(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        with suppress(FileNotFoundError):  # another process has finished it meanwhile
            if time.time() - part.stat().st_mtime > ABANDONED:
                shutil.rmtree(part, ignore_errors=True)


def _site_hash(site: SiteConfig) -> str:
    # How many of its cases are wanted alters none of them: experiments share what is prepared.
    settings = {f.name: getattr(site, f.name) for f in fields(site) if not f.metadata.get("selects")}
    if site.root:
        settings["root"] = str(Path(site.root).expanduser().absolute())
    return _hash(settings)


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _safe(name: str) -> str:
    """A name as part of a folder's name."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[:80] or "site"
