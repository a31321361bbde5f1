"""``pansite study table``: what a study's finished cells say, printed, written, and entered in ``RESULTS.md``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.atomic import write_text
from datamodules.errors import UsageError
from experiments.comparison import files, words
from experiments.comparison.compute import Comparison, compare
from experiments.comparison.pool import pools
from experiments.configuration.layers import shown
from experiments.study.cells import Cell, chosen, lay_out
from experiments.study.config import Look, Study, find_study, load_study
from experiments.study.finished import Known, look_up
from experiments.study.records import Record, commits, time_taken

RESULTS = "RESULTS.md"
_TITLE = (
    "# What the studies found\n\n"
    "Every section is written by the command that stands in it, from the cells in the folder of its study.\n"
)


def table(
    name: str,
    overrides: Sequence[str],
    look: Look | None = None,
    results: Path | None = None,
    only: Sequence[str] = (),
    reference: str | None = None,
    write: bool = False,
) -> int:
    """Print a study's table and write it beside its cells.

    Args:
        name: the study.
        overrides: of all its methods, as they were given to ``study run``.
        look: at which sites; None for the study's own.
        results: the folder above those of the studies' cells; None for the one that the study lies in.
        only: methods; none for all.
        reference: the method that the others are compared with; None for the study's own.
        write: enter it in ``RESULTS.md`` too.

    Raises:
        UsageError: a fault of the study, or nothing of it is done yet.
    """
    study = load_study(find_study(name))
    everything = lay_out(study, overrides, look)
    wanted = [*dict.fromkeys([reference or study.reference, *only])] if only else []
    cells = chosen(everything, wanted)
    folder = results or study.path.parent
    known = look_up(cells, folder)
    used, missing = _complete(known)
    against = reference or study.reference
    if not used:
        _tell_missing(missing)
        raise UsageError(
            f"{shown(study.path)}: no method has all sources and folds of a seed yet; compute them with "
            f"`pansite study run {name}`."
        )
    if against not in {record.head.method for record in used}:
        raise UsageError(
            f"{shown(study.path)}: the reference {against!r} has not been computed yet; do so with `pansite study run "
            f"{name} --only {against}`, or take another with --reference."
        )
    found = _compare(study, cells[0], used, against, _command(name, overrides, look, only, reference))
    files.show(found)
    _tell_missing(missing)
    place = cells[0].file(folder).parent
    print("written:", *files.write(found, place, "table"))
    if write:
        path = folder / RESULTS
        write_text(path, entered(path.read_text("utf-8") if path.is_file() else _TITLE, cells[0], found, used, missing))
        print(f"written: {path}")
    return 0


def _complete(known: Sequence[Known]) -> tuple[list[Record], list[Known]]:
    """The records of each method's seeds of which every source and fold is done, and the cells that are not done."""
    missing = [entry for entry in known if entry.record is None]
    open_seeds = {(entry.cell.method, entry.cell.seed) for entry in missing}
    order = list(dict.fromkeys(entry.cell.method for entry in known))
    kept = [
        entry.record
        for entry in known
        if entry.record is not None and (entry.cell.method, entry.cell.seed) not in open_seeds
    ]
    return sorted(kept, key=lambda record: order.index(record.head.method)), missing


def _compare(study: Study, cell: Cell, used: Sequence[Record], reference: str, command: str) -> Comparison:
    longer = {name: method for name, method in study.config.methods.items() if method.longer != 1}
    computed = {record.head.method for record in used}
    notes = [
        f"{name} is trained {method.longer:g} times as long: {' '.join(method.because.split())}"
        for name, method in longer.items()
        if name in computed
    ]
    evaluated = [record.evaluated() for record in used]
    inexact = [Path(record.path).stem for record in used if record.head.checkpoint.get("inexact")]
    if inexact:
        notes.append(f"Went on under other conditions than they began under: {', '.join(inexact)}.")
    return compare(
        pools(evaluated),
        reference,
        f"{study.config.name}, {cell.look} sites",
        study.config.about,
        cell.look,
        [*notes, _origin(used), f"Written by `{command}`."],
    )


def _origin(used: Sequence[Record]) -> str:
    """Commits, machines and time of the cells."""
    # Rows of the same settings share a run.
    seconds = list(
        {record.head.run: record.head.seconds for record in used if record.head.seconds is not None}.values()
    )
    runs = {record.head.run for record in used}
    machines = list(dict.fromkeys(record.head.machine for record in used))
    days = sorted({record.head.finished for record in used})
    made = f"{len(used)} cells, finished {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "")
    of = f" for the {len(seconds)} whose time is known" if len(seconds) < len(runs) else ""
    return (
        f"{made}; commit{'s' * (len(commits(used)) > 1)} {', '.join(commits(used))} (a + stands for changes on top); "
        f"machine: {'; '.join(machines)}; {time_taken(sum(seconds) if seconds else None)} in all{of}."
    )


def _command(name: str, overrides: Sequence[str], look: str | None, only: Sequence[str], reference: str | None) -> str:
    words_ = ["pansite study table", name, *(["--look", look] if look else [])]
    words_ += ["--only", ",".join(only)] if only else []
    words_ += ["--reference", reference] if reference else []
    return " ".join([*words_, *overrides, "--write"])


def _tell_missing(missing: Sequence[Known]) -> None:
    if not missing:
        return
    stale = [entry for entry in missing if entry.stale]
    names = ", ".join([*(entry.cell.name for entry in missing[:6]), *(["…"] if len(missing) > 6 else [])])
    print(f"not done yet: {len(missing)} cell{'s' * (len(missing) > 1)} ({names})")
    for entry in stale:
        print(f"  {entry.cell.name} is stale: {entry.stale}")


def entered(text: str, cell: Cell, found: Comparison, used: Sequence[Record], missing: Sequence[Known]) -> str:
    """``RESULTS.md`` with the section of one study and look replaced, or added at its end."""
    begin, end = (f"<!-- {cell.study} {cell.look}: {word} -->" for word in ("begin", "end"))
    times: dict[str, list[float]] = {}
    for record in used:
        if record.head.seconds is not None:
            times.setdefault(record.head.method, []).append(record.head.seconds)
    lines = [words.markdown(found, 2)]
    if times:
        usual = [f"{name} {time_taken(sum(taken) / len(taken))}" for name, taken in times.items()]
        lines += [f"Time of a cell, mean: {', '.join(usual)}.", ""]
    if missing:
        lines += [f"Not done yet: {', '.join(entry.cell.name for entry in missing)}.", ""]
    section = "\n".join([begin, *lines, end])
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(text):
        return pattern.sub(lambda _: section, text)
    return f"{text.rstrip()}\n\n{section}\n"
