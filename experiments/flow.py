"""The story of a run: prepare, fit, evaluate, report; each step goes on from what is there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from callbacks.checkpoint_io import latest, read_checkpoint
from callbacks.checkpoints import lost_best
from callbacks.inexact import read_inexact, sentence
from datamodules.config import DataConfig
from datamodules.errors import UsageError
from datamodules.layouts import SiteConfig
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site
from datamodules.single_source import SingleSourceDataModule
from datamodules.store import Spacing
from experiments import initial_weights, launch, sealing, status, training, wandb_run
from experiments.config import ExperimentConfig
from experiments.configuration import Loaded, load_experiment
from experiments.console import first_rank, say, show_summary
from experiments.identity import altered_keys, run_id
from experiments.run_folder import RunFolder
from experiments.signals import SIGNALS
from experiments.sweep import agent
from experiments.wandb_pieces import unsent
from lightning_modules.pretraining import CANT_SEGMENT, pretrains


@wandb_run.ended_by_errors()
def run(loaded: Loaded, fresh: bool = False, inexact: bool = False) -> int:
    """Prepare every site, fit on the source, evaluate what is missing, write the report.

    Of what is only pretrained there is nothing to evaluate: it ends with the fit.
    """
    if pretrains(loaded.config.model):
        return fit(loaded, fresh, inexact)
    data = loaded.config.data
    sites = _prepared(data)
    overlap = sealing.overlap_of_sites(sites[0], sites[1:])
    sealing.tell(overlap)
    sealing.enforce(data, overlap)
    folder = _fit(loaded, fresh, inexact)
    return _conclude(loaded.config, _evaluated(loaded.config, folder), folder)


def fit(loaded: Loaded, fresh: bool = False, inexact: bool = False) -> int:
    """Fit on the source alone."""
    fitted(loaded, fresh, inexact)
    return 0


@wandb_run.ended_by_errors()
def fitted(loaded: Loaded, fresh: bool = False, inexact: bool = False) -> RunFolder:
    """Fit on the source alone, and tell which run that is."""
    data = loaded.config.data
    source = _prepare(data, data.source, data.spacing)
    _tell(source)
    overlap = sealing.overlap_as_stored(data, source)
    sealing.tell(overlap)
    sealing.enforce(data, overlap)
    folder = _fit(loaded, fresh, inexact)
    if pretrains(loaded.config.model):
        say(f"{folder.path}: {CANT_SEGMENT}={folder.path}")
    if first_rank():
        wandb_run.finish(folder)
    return folder


@wandb_run.ended_by_errors()
def evaluate(path: Path, overrides: list[str]) -> int:
    """Evaluate a run on its sites and on those that ``overrides`` add.

    Raises:
        UsageError: an override would have led to other weights.
    """
    folder = RunFolder.existing(path)
    before = load_experiment(folder.config).config
    loaded = load_experiment(folder.config, overrides)
    if altered := altered_keys(before, loaded.config):
        raise UsageError(
            f"{altered[0]}: decides what is trained, and this run is trained; fit an experiment with it instead."
        )
    summary = _evaluated(loaded.config, folder)
    if first_rank():
        for site, cases in folder.read_excluded().items():
            _tell_excluded(site, cases)
        # Sites stay with the run once they have been evaluated; which checkpoint and how is asked for each time.
        sites = [override for override in overrides if override.startswith(("data.held_out", "data.overlap"))]
        folder.write_config(load_experiment(folder.config, sites).yaml)
    return _conclude(loaded.config, summary, folder)


def report(path: Path) -> int:
    """Write ``evaluation/report.html`` from what the run folder holds, and say what of it W&B has not seen yet.

    Raises:
        UsageError: there is nothing to report of the run: it is only pretrained, or not evaluated yet.
    """
    from experiments.report.page import write_report

    folder = RunFolder.existing(path)
    if pretrains(load_experiment(folder.config).config.model):
        raise UsageError(
            f"{folder.path}: {CANT_SEGMENT}={folder.path}; its losses and norms are in {folder.metrics.name}."
        )
    page = write_report(folder.path, unsent(folder))
    wandb_run.tell_pieces(folder)
    say(f"report: {page}")
    return 0


def prepare(loaded: Loaded) -> int:
    """Bring every site of the experiment into the store, say what was found and write the data card.

    Raises:
        UsageError: a held-out case is among the source's, and ``data.overlap`` is ``error``.
    """
    from experiments.data_card.page import write_card

    data = loaded.config.data
    sites = _prepared(data)
    overlap = sealing.overlap_of_sites(sites[0], sites[1:])
    sealing.tell(overlap)
    if first_rank():
        say(f"data card: {write_card(loaded.config, sites, overlap)}")
    sealing.enforce(data, overlap)
    return 0


def _prepared(data: DataConfig) -> list[Preparation]:
    """All sites in the store, the source first."""
    sites = [_prepare(data, data.source, data.spacing)]
    _tell(sites[0])
    for site in data.held_out.values():
        sites.append(_prepare(data, site, sites[0].spacing))
        _tell(sites[-1])
    return sites


def _prepare(data: DataConfig, site: SiteConfig, spacing: Spacing | None) -> Preparation:
    # It may take hours, and what is prepared stays: a scheduler's notice need not wait for its end.
    with SIGNALS.at_once():
        return prepare_site(site, spacing, data.structure, Path(data.store), processes=max(1, data.workers))


def _tell(preparation: Preparation) -> None:
    volumes = [case.record.pancreas_volume_ml for case in preparation.kept]
    spacing = " × ".join(f"{edge:g}" for edge in preparation.spacing)
    say(
        f"{preparation.site}: {len(preparation.kept)} cases ({preparation.reused} already prepared) at {spacing} mm, "
        f"pancreas {min(volumes):.0f} to {max(volumes):.0f} ml"
    )
    for note in preparation.notes:
        say(f"  {preparation.site}: {note}")
    _tell_excluded(preparation.site, preparation.excluded)
    for stored in preparation.kept:
        for warning in stored.record.warnings:
            say(f"  {preparation.site}/{stored.record.case}: {warning}")


def _tell_excluded(site: str, cases: Mapping[str, str]) -> None:
    for case, reason in cases.items():
        say(f"  {site}/{case} is left out: {reason}")


def _fit(loaded: Loaded, fresh: bool, inexact: bool) -> RunFolder:
    config = loaded.config
    launch.check(config.trainer)
    if fresh and launch.restarts():
        say("--fresh: this job has been requeued, so that it goes on with what it began anew")
        fresh = False
    data = SingleSourceDataModule(config.data.training(), config.seed, config.trainer.accumulate)
    data.prepare_data()
    data.setup()
    folder = RunFolder(Path(config.run.root) / config.name / _id(config, data))
    # Ranks that Lightning starts come through here too; the first of them all speaks and writes for all.
    first = first_rank()
    with folder.locked() if first else nullcontext():
        if first and fresh and (aside := folder.set_aside()):
            say(f"the run that was here is kept as {aside}")
        if first:
            folder.sweep_fit()
        # Ranks that srun starts side by side may see what the first one has yet to set aside.
        resume = None if fresh else latest(folder.checkpoints)
        step = 0 if resume is None else int(read_checkpoint(resume, mmap=True)["global_step"])
        done = step >= config.trainer.max_steps
        # What does not fit is refused before the folder tells of a run.
        module = None if done else training.build_module(config, data)
        if module is not None and resume is not None:
            training.check_resumable(module, resume, config.trainer, inexact)
        with status.fitting(folder.path, step, config.trainer.max_steps) if first else nullcontext():
            if first:
                folder.describe(loaded.yaml, loaded.overrides, data.split.to_dict())
            if module is None:
                say(f"{folder.path}: trained already, all {step} steps")
                _tell_what_is_not_as_it_should(folder)
                if agent.run_id() is not None:
                    # A sweep of W&B's waits for what it measured.
                    wandb_run.begin(config, folder)
                return folder
            say(f"{folder.path}: {f'going on from step {step}' if step else _beginning(config.model.init)}")
            training.fit(config, folder, module, data, resume, inexact)
    return folder


def _evaluated(config: ExperimentConfig, folder: RunFolder) -> dict[str, Any]:
    # Training need not wait for what evaluation imports.
    from experiments.evaluation import evaluate

    return evaluate(config, folder)


def _beginning(init: str | None) -> str:
    return "starting" if init is None else f"starting from the weights of {initial_weights.described(init)}"


def _tell_what_is_not_as_it_should(folder: RunFolder) -> None:
    """What a trained run says of itself for ever."""
    for said in (sentence(read_inexact(folder.inexact)), lost_best(folder.checkpoints)):
        if said:
            say(f"  {said}")


def _id(config: ExperimentConfig, data: SingleSourceDataModule) -> str:
    records = [case.record for case in data.preparation.kept]
    init = config.model.init
    return run_id(
        config,
        [(record.case, record.patient, record.digest) for record in records],
        data.spacing,
        data.split.to_dict(),
        None if init is None else initial_weights.digest(initial_weights.find(init)),
    )


def _conclude(config: ExperimentConfig, summary: dict[str, Any], folder: RunFolder) -> int:
    show_summary(summary)
    if said := sentence(summary.get("checkpoint", {}).get("inexact", [])):
        say(said)
    if first_rank():
        from experiments.report.page import write_report
        from experiments.wandb_results import log_results

        page = write_report(folder.path)
        log_results(config, folder)
        wandb_run.finish(folder)
        if waiting := unsent(folder):  # this command's own piece among them
            write_report(folder.path, waiting)
        say(f"report: {page}")
    return 0
