"""The seal of an experiment: whether its held-out cases are among the source's, before training and before testing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from callbacks.rows import Evaluation
from datamodules.atomic import write_json
from datamodules.config import DataConfig
from datamodules.overlap import Scan
from datamodules.preparation import Preparation
from datamodules.seal import Overlap, find_overlap, overlap_of, stored_scans
from experiments.console import first_rank, say
from experiments.ledger import Ledger
from experiments.run_folder import RunFolder


def overlap_of_sites(source: Preparation, held_out: Sequence[Preparation]) -> Overlap:
    """The scans that the prepared sites of an experiment share."""
    return find_overlap(source.kept, [case for site in held_out for case in site.kept])


def overlap_as_stored(data: DataConfig, source: Preparation) -> Overlap:
    """The same before training: of what the store knows, without a look at a held-out site.

    Says which sites it does not know yet.
    """
    held_out: list[Scan] = []
    unknown = []
    for name, site in data.held_out.items():
        scans = stored_scans(replace(site, name=name), data, source.spacing)
        if scans is None:
            unknown.append(name)
        else:
            held_out += scans
    if unknown:
        say(
            f"held out and not prepared yet: {', '.join(unknown)}; whether their scans are the source's too is "
            "found out by `pansite prepare`, and at the latest by `pansite evaluate`"
        )
    return overlap_of([Scan.of(case) for case in source.kept], held_out)


def tell(overlap: Overlap) -> None:
    """Say which scans there are twice."""
    for sentence in overlap.sentences():
        say(f"  {sentence}")


def enforce(data: DataConfig, overlap: Overlap) -> None:
    """Do what ``data.overlap`` asks for before a run goes on.

    Raises:
        UsageError: it is ``error``, and a held-out case is among the source's.
    """
    if data.overlap == "error":
        overlap.refuse()


def begun(data: DataConfig, run: RunFolder, evaluation: Evaluation, overlap: Overlap) -> Evaluation:
    """Write the looks that an evaluation is about to take into the ledger, and let its summary tell of the seal.

    Args:
        data: of the experiment.
        run: what is evaluated.
        evaluation: how.
        overlap: the scans that its sites share.

    Returns:
        The evaluation, its summary to hold how often each held-out site was looked at before (``looks_before``) and
        the scans that are there twice (``overlap``).
    """
    tell(overlap)
    allowed = _allowed(data, overlap, run)
    looks = Ledger.of_store(data.store).begin(run, evaluation) if first_rank() else {}
    remarks = {"policy": data.overlap, "allowed": allowed, **overlap.to_dict()}
    return replace(evaluation, remarks={**evaluation.remarks, "overlap": remarks, "looks_before": looks})


def done(data: DataConfig, run: RunFolder, evaluation: Evaluation, summary: Mapping[str, Any]) -> None:
    """Write into the ledger what an evaluation has found."""
    if first_rank():
        Ledger.of_store(data.store).finish(run, evaluation, summary)


def _allowed(data: DataConfig, overlap: Overlap, run: RunFolder) -> list[str]:
    """The held-out cases, of its source, that a run was ever tested on; these are kept with it."""
    before = run.read_leaks()
    if data.overlap != "allow" or not overlap.leaks:
        return before
    found = sorted({*before, *(f"{pair.second} is {pair.first} ({pair.evidence})" for pair in overlap.leaks)})
    if found != before and first_rank():
        write_json(run.overlap, found)
    return found
