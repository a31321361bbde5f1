"""``pansite ladder``: runs along one factor at a time, on phantoms or on the images of a site."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from callbacks.checkpoint_io import chosen
from callbacks.rows import Evaluation, describe_checkpoint
from datamodules.errors import UsageError
from datamodules.split import Split
from experiments import sealing
from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.console import first_rank, say
from experiments.evaluation import inference_settings, refuse_pretrained
from experiments.identity import altered_keys
from experiments.ladder import files
from experiments.ladder.cells import Cells
from experiments.ladder.climb import Climber, climb
from experiments.ladder.figures import MOST_RUNS
from experiments.ladder.found import Ladder, find
from experiments.ladder.phantoms import Phantoms, refuse_own_patients
from experiments.ladder.plan import CASES, LEVELS, Plan, plan
from experiments.ladder.real import Opened, SiteScans, open_site
from experiments.ladder.scans import Scans
from experiments.ladder.words import names
from experiments.locate import find_runs
from experiments.run_folder import RunFolder
from lightning_modules.loading import load_module

FOLDER = "ladder"
"""In a run's folder."""


@dataclass(frozen=True)
class Options:
    """What the command line says beside the runs.

    Attributes:
        on: the site whose images are climbed with; None for phantoms.
        cases: how many of its cases, or phantoms; None for all, or the usual number.
        levels: of each factor.
        factors: those that are wanted; empty for all.
        output: where tables and page go; None for the run's folder.
    """

    on: str | None = None
    cases: int | None = None
    levels: Sequence[float] = LEVELS
    factors: Sequence[str] = ()
    output: Path | None = None


@dataclass(frozen=True)
class Given:
    """A run that was named.

    Attributes:
        run: its folder.
        config: its experiment, with what the command line says of the evaluation.
        evaluation: its weights and settings of inference.
    """

    run: RunFolder
    config: ExperimentConfig
    evaluation: Evaluation


def ladder(words: Sequence[str], overrides: Sequence[str], options: Options) -> int:
    """Measure what is missing of a ladder, print it and write it.

    Args:
        words: runs, or folders that hold runs.
        overrides: ``evaluation.…``, and held-out sites to be added.
        options: what is climbed.

    Raises:
        UsageError: a run that can't be taken, or a site, factor or level that there is none of.
    """
    if not first_rank():
        return 0
    runs = list({folder.resolve(): folder for word in words for folder in find_runs(word)}.values())
    if len(runs) > MOST_RUNS:
        raise UsageError(f"pansite ladder: {len(runs)} runs are too many for one picture; give at most {MOST_RUNS}.")
    given = [_given(RunFolder.existing(run), overrides) for run in runs]
    for key, value in (("tolerance", "2"), ("smallest_piece", "0")):
        if len({getattr(each.config.evaluation, key) for each in given}) > 1:
            raise UsageError(f"pansite ladder: the runs differ in evaluation.{key}; add {key}={value} to the command.")
    with ExitStack() as held:
        for each in given:
            held.enter_context(each.run.locked("laddering"))
        found = _climbed(given, options)
    command = _command(words, overrides, options)
    folder = options.output or _folder(given, found)
    files.show(found)
    say("written: " + " ".join(map(str, files.write(found, folder, command))))
    return 0


def _given(run: RunFolder, overrides: Sequence[str]) -> Given:
    before = load_experiment(run.config).config
    config = load_experiment(run.config, overrides).config
    if altered := altered_keys(before, config):
        raise UsageError(f"{altered[0]}: decides what is trained, and {run.path} is trained; leave it out.")
    refuse_pretrained(config, run)
    evaluation = Evaluation(
        folder=run.path / FOLDER,
        checkpoint=describe_checkpoint(chosen(run.checkpoints, config.evaluation.checkpoint)),
        inference={**asdict(inference_settings(config.evaluation)), "precision": config.trainer.precision},
        roles={},
        records=[],
        tolerance=config.evaluation.tolerance,
    )
    return Given(run, config, evaluation)


def _climbed(given: Sequence[Given], options: Options) -> Ladder:
    """The numbers of a ladder, all of whose cells are there at the end."""
    opened: list[Opened] = []
    scans: Scans
    if options.on is None:
        for each in given:
            refuse_own_patients(str(each.run.path), each.config.data.source)
        wanted = plan(Phantoms.factors, options.factors, options.levels)
        scans = Phantoms(options.cases or CASES)
    else:
        wanted = plan(SiteScans.factors, options.factors, options.levels)
        opened = [_opened(each, options.on) for each in given]
        scans = _shared(given, opened, options.cases)
    climbers = [
        Climber(name, each.run, each.config, Cells(each.evaluation.folder / scans.name, each.evaluation.key, scans))
        for name, each in zip(_names(given), given, strict=True)
    ]
    for climber in climbers:
        climber.cells.sweep()
    looks = [_look(each, site, scans, wanted) for each, site in zip(given, opened, strict=False) if site.held_out]
    climb(scans, wanted, climbers)
    found = find(scans, wanted, climbers, [each.evaluation.checkpoint for each in given], _told(looks))
    for each, site, own in zip(given, opened, found.climbs, strict=False):
        if site.held_out:
            foot = own.curves[found.factors[0].name, "dice"].means[0].value
            summary = {"sites": {site.name: {"dice": {"mean": foot}}}, "held_out_macro": {}}
            sealing.done(each.config.data, each.run, _evaluation(each, site, scans, wanted), summary)
    return found


def _names(given: Sequence[Given]) -> list[str]:
    return names([(each.config.name, each.config.seed, each.run.path.name) for each in given])


def _opened(given: Given, word: str) -> Opened:
    path = chosen(given.run.checkpoints, given.config.evaluation.checkpoint)
    spacing = load_module(path).preprocessing.spacing
    return open_site(given.config.data, Split.from_dict(given.run.read_split()), spacing, word)


def _shared(given: Sequence[Given], opened: Sequence[Opened], count: int | None) -> SiteScans:
    """The cases that all runs climb with.

    Raises:
        UsageError: the runs know different ones.
    """
    chosen_cases = [site.cases[:count] for site in opened]
    known = [{case.record.case: case.record.digest for case in cases} for cases in chosen_cases]
    for each, own in zip(given, known, strict=True):
        if own != known[0]:
            raise UsageError(
                f"--on {opened[0].name}: {each.run.path} has other cases there than {given[0].run.path}; compare runs "
                "of one source, split and site."
            )
    return SiteScans(opened[0], chosen_cases[0])


def _evaluation(given: Given, site: Opened, scans: Scans, wanted: Plan) -> Evaluation:
    """What the ledger is told: a ladder is no evaluation as the run's own is, but another look at the same cases."""
    climbed: Mapping[str, Any] = {"factors": [factor.name for factor in wanted.factors], "levels": list(wanted.levels)}
    cases = set(scans.cases)
    return replace(
        given.evaluation,
        inference={**given.evaluation.inference, "ladder": climbed},
        roles={site.name: "held_out"},
        records=[case.record for case in site.cases if case.record.case in cases],
    )


def _look(given: Given, site: Opened, scans: Scans, wanted: Plan) -> int:
    """Write a look at a held-out site into the ledger, and tell how many there were before."""
    begun = sealing.begun(given.config.data, given.run, _evaluation(given, site, scans, wanted), site.data.overlap)
    return int(begun.remarks["looks_before"].get(site.name, 0))


def _told(looks: Sequence[int]) -> list[str]:
    if not looks:
        return []
    if not max(looks):
        return ["They had never been looked at before."]
    often = "once" if max(looks) == 1 else f"{max(looks)} times"
    return [f"They had been looked at {often} before, under other weights or settings."]


def _folder(given: Sequence[Given], found: Ladder) -> Path:
    """Where the tables and the page go: into the run, or beside the runs where there are several."""
    if len(given) == 1:
        return given[0].evaluation.folder / found.name
    root = Path(given[0].config.run.root).expanduser()
    joined = "+".join(re.sub(r"[^\w.-]", "_", climb.name) for climb in found.climbs)
    ids = hashlib.sha256("\n".join(str(each.run.path.resolve()) for each in given).encode()).hexdigest()[:6]
    return root / "ladders" / f"{joined[:80]}-{ids}" / found.name


def _command(words: Sequence[str], overrides: Sequence[str], options: Options) -> str:
    """The command line that makes the ladder."""
    parts = ["pansite", "ladder", *words]
    if options.on is not None:
        parts += ["--on", options.on]
    if options.cases is not None:
        parts += ["--cases", str(options.cases)]
    if tuple(options.levels) != LEVELS:
        parts += ["--levels", ",".join(f"{level:g}" for level in options.levels)]
    if options.factors:
        parts += ["--factors", ",".join(options.factors)]
    return shlex.join([*parts, *overrides])
