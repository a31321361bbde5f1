"""The story of a run: prepare, fit, evaluate, report; each step goes on from what is there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from callbacks.checkpoint_io import latest, read_checkpoint
from datamodules.config import DataConfig
from datamodules.errors import UsageError
from datamodules.layouts import SiteConfig
from datamodules.prepare import Preparation, prepare_site
from datamodules.single_source import SingleSourceDataModule
from datamodules.store import Spacing
from experiments import evaluation, initial_weights, training
from experiments.config import ExperimentConfig
from experiments.configuration import Loaded, load_experiment
from experiments.console import first_rank, say, show_summary
from experiments.identity import altered_keys, run_id
from experiments.run_folder import RunFolder


def run(loaded: Loaded, fresh: bool = False) -> int:
    """Prepare every site, fit on the source, evaluate what is missing, write the report."""
    prepare(loaded)
    folder = _fit(loaded, fresh)
    return _conclude(evaluation.evaluate(loaded.config, folder), folder)


def fit(loaded: Loaded, fresh: bool = False) -> int:
    """Fit on the source alone."""
    data = loaded.config.data
    _tell(_prepare(data, data.source, data.spacing))
    _fit(loaded, fresh)
    return 0


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
    summary = evaluation.evaluate(loaded.config, folder)
    if first_rank():
        for site, cases in folder.read_excluded().items():
            _tell_excluded(site, cases)
        # Sites stay with the run once they have been evaluated; which checkpoint and how is asked for each time.
        sites = [override for override in overrides if override.startswith("data.held_out")]
        folder.write_config(load_experiment(folder.config, sites).yaml)
    return _conclude(summary, folder)


def report(path: Path) -> int:
    """Write ``evaluation/report.html`` from what the run folder holds."""
    from experiments.report.page import write_report

    say(f"report: {write_report(RunFolder.existing(path).path)}")
    return 0


def prepare(loaded: Loaded) -> int:
    """Bring every site of the experiment into the store and say what was found."""
    data = loaded.config.data
    source = _prepare(data, data.source, data.spacing)
    _tell(source)
    for site in data.held_out.values():
        _tell(_prepare(data, site, source.spacing))
    return 0


def _prepare(data: DataConfig, site: SiteConfig, spacing: Spacing | None) -> Preparation:
    return prepare_site(site, spacing, data.structure, Path(data.store), processes=max(1, data.workers))


def _tell(preparation: Preparation) -> None:
    volumes = [case.record.pancreas_volume_ml for case in preparation.kept]
    spacing = " × ".join(f"{edge:g}" for edge in preparation.spacing)
    say(
        f"{preparation.site}: {len(preparation.kept)} cases ({preparation.reused} already prepared) at {spacing} mm, "
        f"pancreas {min(volumes):.0f} to {max(volumes):.0f} ml"
    )
    _tell_excluded(preparation.site, preparation.excluded)
    for stored in preparation.kept:
        for warning in stored.record.warnings:
            say(f"  {preparation.site}/{stored.record.case}: {warning}")


def _tell_excluded(site: str, cases: Mapping[str, str]) -> None:
    for case, reason in cases.items():
        say(f"  {site}/{case} is left out: {reason}")


def _fit(loaded: Loaded, fresh: bool) -> RunFolder:
    config = loaded.config
    data = SingleSourceDataModule(config.data.training(), config.seed, config.trainer.accumulate)
    data.prepare_data()
    data.setup()
    folder = RunFolder(Path(config.run.root) / config.name / _id(config, data))
    # Ranks that Lightning starts come through here too; the first of them all speaks and writes for all.
    first = first_rank()
    with folder.locked() if first else nullcontext():
        if first and fresh and (aside := folder.set_aside()):
            say(f"the run that was here is kept as {aside}")
        resume = latest(folder.checkpoints)
        step = 0 if resume is None else int(read_checkpoint(resume)["global_step"])
        done = step >= config.trainer.max_steps
        # What does not fit is refused before the folder tells of a run.
        module = None if done else training.build_module(config, data)
        if module is not None and resume is not None:
            training.check_resumable(module, resume)
        if first:
            folder.describe(loaded.yaml, loaded.overrides, data.split.to_dict())
        if module is None:
            say(f"{folder.path}: trained already, all {step} steps")
            return folder
        say(f"{folder.path}: {f'going on from step {step}' if step else 'starting'}")
        training.fit(config, folder, module, data, resume)
    return folder


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


def _conclude(summary: dict[str, Any], folder: RunFolder) -> int:
    show_summary(summary)
    if first_rank():
        report(folder.path)
    return 0
