"""``pansite evaluate --predictions DIR EXPERIMENT``: another tool's masks, judged as a run's own are.

What comes of it is a run folder without checkpoints: the same files in ``evaluation/``, so that reports and comparisons
take it like any run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from callbacks.measured import compared
from callbacks.rows import Evaluation, finished, write_row
from callbacks.summary import collect
from callbacks.views import keep_views
from datamodules import progress
from datamodules.errors import CaseError, UsageError
from datamodules.grids import larger_pieces
from datamodules.held_out import HeldOutDataModule
from datamodules.native import from_native, native_grid
from datamodules.reading import check_grid, read_ids
from datamodules.store import CaseRecord, StoredCase
from datamodules.window import apply_window
from experiments import sealing, status
from experiments.config import ExperimentConfig
from experiments.configuration import Loaded
from experiments.console import say, show_summary
from experiments.data_card.evaluated import keep_card
from experiments.evaluated_cases import evaluated_cases, tell_excluded
from experiments.location import location_prior_dice
from experiments.nnunet_summary import write_nnunet
from experiments.run_folder import RunFolder
from experiments.signals import SIGNALS

Key = tuple[str, str]
"""Site and case."""
PLACES = ("{site}/{case}.nii.gz", "{site}_{case}.nii.gz", "{site}/{case}/pancreas.nii.gz")
"""Where a prediction is looked for, each also without the compression."""
NAMED = 5


def evaluate_predictions(loaded: Loaded, folder: Path) -> int:
    """Judge the masks in a folder on an experiment's held-out sites and the source's test split.

    Args:
        loaded: the experiment; its name names the run folder.
        folder: where the masks are, see :data:`PLACES`.

    Raises:
        UsageError: no mask is found, or one lies on another grid or has ids of which it is not said what they are.
    """
    config = loaded.config
    if not folder.is_dir():
        raise UsageError(f"--predictions: {folder} is no folder.")
    source, data = evaluated_cases(config)
    files = {(case.record.site, case.record.case): _find(folder, case.record) for case in data.cases}
    found = {key: file for key, file in files.items() if file is not None}
    missing = [key for key, file in files.items() if file is None]
    _check(folder, data.cases, found)
    digest = _digest(config.evaluation.prediction_labels, found)
    run = RunFolder(Path(config.run.root) / config.name / _id(folder, data.cases))
    with run.locked("evaluating"):
        run.sweep_evaluation()
        run.describe(loaded.yaml, loaded.overrides, source.split.to_dict())
        evaluation = Evaluation(
            folder=run.evaluation,
            checkpoint={"name": folder.resolve().name, "sha256": digest},
            inference={"smallest_piece": config.evaluation.smallest_piece},
            roles=data.roles,
            records=[case.record for case in data.cases],
            excluded=data.excluded,
            tolerance=config.evaluation.tolerance,
            location_prior=location_prior_dice(run.evaluation / "location_prior.json", data.training_cases, data.cases),
            remarks={"predictions_of": {"folder": str(folder.resolve()), "missing": _by_site(missing)}},
        )
        evaluation = sealing.begun(config.data, run, evaluation, data.overlap)
        keep_card(run, data)
        _measure(config, evaluation, data.cases, found)
        summary = collect(evaluation)
        if config.evaluation.nnunet:
            for file in write_nnunet(evaluation, partial(_place, folder, found)):
                say(f"as nnU-Net writes it: {file}")
        sealing.done(config.data, run, evaluation, summary)
        status.write(run.path, "done", "evaluate")
    _tell(folder, data, found, missing)
    return _conclude(summary, run)


def _find(folder: Path, record: CaseRecord) -> Path | None:
    places = [folder / place.format(site=record.site, case=record.case) for place in PLACES]
    there = [file for place in places for file in (place, place.with_suffix("")) if file.is_file()]
    if len(there) > 1:
        raise UsageError(
            f"site {record.site!r}, case {record.case!r}: there are several predictions of it, {there[0]} and "
            f"{there[1]}: leave one of them"
        )
    return there[0] if there else None


def _place(folder: Path, found: Mapping[Key, Path], record: CaseRecord) -> Path:
    """Where a prediction is, or would have been taken."""
    return found.get((record.site, record.case), folder / PLACES[0].format(site=record.site, case=record.case))


def _check(folder: Path, cases: Sequence[StoredCase], found: Mapping[Key, Path]) -> None:
    """What can be refused before anything is measured."""
    if not found:
        first = cases[0].record
        places = ", ".join(str(folder / place.format(site=first.site, case=first.case)) for place in PLACES)
        raise UsageError(f"--predictions: {folder} has none of the {len(cases)} cases; looked for {places}, and so on.")
    owner: dict[Path, CaseRecord] = {}
    for case in cases:
        record = case.record
        if (file := found.get((record.site, record.case))) is not None:
            other = owner.setdefault(file, record)
            if other is not record:
                raise UsageError(
                    f"site {record.site!r}, case {record.case!r}: {file} may be of site {other.site!r}, case "
                    f"{other.case!r}, too: write <site>/<case>.nii.gz"
                )
            with _blaming(record):
                check_grid(file, native_grid(record))


@contextmanager
def _blaming(record: CaseRecord) -> Iterator[None]:
    """Name the case in what is wrong with its prediction."""
    try:
        yield
    except CaseError as error:
        said = str(error).replace("label ", "prediction ", 1)
        raise UsageError(f"site {record.site!r}, case {record.case!r}: {said}") from error


def _digest(labels: Sequence[int], found: Mapping[Key, Path]) -> str:
    """A hash of all masks and what is taken of them: rows of others are stale."""
    total = hashlib.sha256(repr(sorted(labels)).encode())
    for (site, case), file in sorted(found.items()):
        total.update(f"{site}/{case} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _id(folder: Path, cases: Sequence[StoredCase]) -> str:
    """Ten digits that tell this folder's evaluation on these cases from others."""
    parts = [str(folder.resolve()), *(f"{c.record.site}/{c.record.case} {c.record.digest}" for c in cases)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def _measure(
    config: ExperimentConfig, evaluation: Evaluation, cases: Sequence[StoredCase], found: Mapping[Key, Path]
) -> None:
    """The rows that are missing, each on disk before the next case is begun."""
    done = finished(evaluation)
    todo = [case for case in cases if (case.record.site, case.record.case) not in done]
    say(f"{evaluation.checkpoint['name']}: {len(cases)} cases to evaluate, {len(todo) or 'none'} of them still missing")
    shown = config.trainer.progress_bar and bool(todo)
    with SIGNALS.at_once(), progress.bar(shown) as bar:
        task = bar.add_task("evaluating", total=len(todo))
        for case in todo:
            record = case.record
            mask = _mask(found.get((record.site, record.case)), record, config.evaluation.prediction_labels)
            mask = larger_pieces(mask, config.evaluation.smallest_piece)
            metrics = compared(case, mask.astype(np.uint8), evaluation.tolerance)
            keep_views(
                evaluation,
                record,
                image=apply_window(torch.from_numpy(case.image()), config.data.window).numpy(),
                label=case.label() > 0,
                probability=from_native(mask.astype(np.uint8), record),
            )
            write_row(evaluation, record, metrics)
            bar.advance(task)


def _mask(file: Path | None, record: CaseRecord, labels: Sequence[int]) -> NDArray[np.bool_]:
    """The predicted pancreas on the native grid; empty where there is no prediction."""
    if file is None:
        return np.zeros(record.native_shape, dtype=np.bool_)
    with _blaming(record):
        ids = read_ids(file, native_grid(record))
    wanted = sorted(set(labels)) or [1]
    strange = [int(value) for value in np.unique(ids) if value != 0 and value not in wanted]
    if strange and not labels:
        raise UsageError(
            f"site {record.site!r}, case {record.case!r}: {file} has ids other than 1 ({_listed(strange)}): "
            f"say which are pancreas, as evaluation.prediction_labels=[{strange[0]}]"
        )
    return np.isin(ids, wanted)


def _tell(folder: Path, data: HeldOutDataModule, found: Mapping[Key, Path], missing: Sequence[Key]) -> None:
    tell_excluded(data)
    if missing:
        named = _listed([f"{site}/{case}" for site, case in missing], len(missing))
        say(f"{_counted(missing, 'case')} without a prediction, counted as failed: {named}")
    used = {file.resolve() for file in found.values()}
    others = [file for file in sorted(folder.rglob("*.nii*")) if file.resolve() not in used and file.name[0] != "."]
    if others:
        named = _listed([str(file.relative_to(folder)) for file in others])
        say(f"{_counted(others, 'file')} of no case that is evaluated: {named}")


def _conclude(summary: dict[str, Any], run: RunFolder) -> int:
    from experiments.report.page import write_report

    show_summary(summary)
    say(f"{run.path}: evaluated")
    say(f"report: {write_report(run.path)}")
    return 0


def _by_site(keys: Sequence[Key]) -> dict[str, list[str]]:
    return {site: [case for other, case in keys if other == site] for site in dict.fromkeys(site for site, _ in keys)}


def _counted(items: Sequence[object], what: str) -> str:
    return f"{len(items)} {what}{'s' * (len(items) != 1)}"


def _listed(items: Sequence[object], most: int = NAMED) -> str:
    return ", ".join(map(str, items[:most])) + (f" and {len(items) - most} more" if len(items) > most else "")
