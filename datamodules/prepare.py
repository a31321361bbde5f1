"""A site into the store: its cases side by side, each whole or absent, a broken one named and the rest done.

The store's folders::

    <store>/<site>-<hash of the site's settings>/spacings.json            native spacings, by quick key
    <store>/<site>-<…>/.lock                                                held by the process that prepares it
    <store>/<site>-<…>/<hash of the preparation's settings>/preparation.json  what was found
    <store>/<site>-<…>/<…>/<case>/                                          see datamodules.store
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.descriptions import complete, described
from datamodules.errors import UsageError
from datamodules.in_turn import clear_abandoned, in_turn
from datamodules.layouts import LAYOUTS, Case, SiteConfig
from datamodules.layouts.site import remarks
from datamodules.native_spacings import median_spacing
from datamodules.pool import Killed, run_all
from datamodules.preparation import Preparation, conclude, refusals
from datamodules.prepare_case import Outcome, Task, is_current, prepare_case, quick_key
from datamodules.progress import bar
from datamodules.store import Spacing, StoredCase
from datamodules.store_folders import settings_hash, site_home
from datamodules.writing import writing

if TYPE_CHECKING:
    from datamodules.config import StructureConfig

KILLED = "the process that prepared it was killed (out of memory?)"


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
    home = site_home(site, store)
    with writing(store):
        home.mkdir(parents=True, exist_ok=True)
    with in_turn(home, site.name if progress else None):
        if spacing is None:
            spacing = median_spacing(site, cases, home, processes, labelled)
        spacing = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
        folder = home / settings_hash(spacing, labelled, structure)
        clear_abandoned(folder)
        tasks = [Task(case, site, spacing, structure.axis, labelled, folder / case.case) for case in cases]
        outcomes = _prepare_all(site.name, tasks, refusals(folder), processes, progress)
        kept = [StoredCase(task.folder) for task in tasks if outcomes[task.case.case].reason is None]
        _complete([case.folder for case in kept if not described(case)], processes)
        return conclude(site, spacing, folder, kept, outcomes, notes)


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


def _complete(folders: list[Path], processes: int) -> None:
    """Describe the cases that a store of before holds without a description of this version."""
    for folder, result in run_all(complete, folders, processes):
        if isinstance(result, Killed):
            raise UsageError(f"{folder}: {KILLED}: give the same command again with fewer data.workers.")
