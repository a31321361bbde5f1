"""The cells of a study: one experiment with one seed, source and fold each, resolved and checked, nothing computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.errors import ConfigurationErrors, UsageError
from datamodules.layouts.phantom import PhantomSite
from datamodules.phantom_settings import builtin_site
from experiments.config import ExperimentConfig
from experiments.configuration import Loaded, load_experiment
from experiments.configuration.faults import did_you_mean
from experiments.configuration.layers import shown
from experiments.configuration.writing import to_yaml
from experiments.locate import find_experiment
from experiments.study import settings as same
from experiments.study.config import Look, Method, Study


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        study: its study's name.
        look: at which sites.
        method: the row of the table.
        config: the experiment, with seed, source, fold and held-out sites of this cell.
        resolved: the same as plain containers.
    """

    study: str
    look: Look
    method: str
    config: ExperimentConfig
    resolved: dict[str, Any]

    @cached_property
    def yaml(self) -> str:
        """The experiment as a file."""
        return to_yaml(self.resolved)

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return self.config.seed

    @property
    def source(self) -> str:
        """The site that is trained on."""
        return self.config.data.source.name

    @property
    def fold(self) -> int:
        """The fold of the source that tests."""
        return self.config.data.split.fold

    @property
    def name(self) -> str:
        """The name of its files, without their ending."""
        return f"{self.method}-{self.source}-seed{self.seed}-fold{self.fold}"

    @cached_property
    def settings(self) -> same.Settings:
        """All that decides its numbers."""
        return same.settings(self.config)

    @property
    def hash(self) -> str:
        """A hash of these."""
        return same.digest(self.settings)

    def file(self, results: Path) -> Path:
        """Where its record lies."""
        return results / self.study / self.look / f"{self.name}.csv"

    @property
    def work(self) -> Path:
        """Folder of its experiment's file, its log and its lock, beside the runs."""
        return Path(self.config.run.root) / "studies" / self.study / self.look


def lay_out(study: Study, overrides: Sequence[str] = (), look: Look | None = None) -> list[Cell]:
    """Every cell, seeds first: after the first third of three seeds there is one of each method.

    Args:
        study: the study.
        overrides: of all methods, from the command line; they win over the study's.
        look: at which sites; None for the study's own.

    Raises:
        ConfigurationErrors: with the faults of all methods.
        UsageError: a look that the study has no sites for, or sites of the other kind.
    """
    chosen = look or study.config.look
    if chosen == "dev" and not study.dev:
        raise UsageError(
            f"{shown(study.path)}: names no sites for choosing; list them under 'dev', or take --look test."
        )
    faults: dict[str, list[str]] = {}
    loaded: dict[tuple[str, str], Loaded] = {}
    for name, method in study.config.methods.items():
        for source in study.sources or {"": ""}:
            try:
                loaded[name, source] = _load(study, name, method, source, chosen, overrides)
            except UsageError as error:
                sentences = error.faults if isinstance(error, ConfigurationErrors) else (str(error),)
                for fault in sentences:
                    faults.setdefault(fault, []).append(name)
    if faults:
        raise ConfigurationErrors(
            [f"{shown(study.path)}: {_of(names, study)}: {fault}" for fault, names in faults.items()]
        )
    return [
        _cell(study, chosen, name, loaded[name, source], seed, fold, study.config.methods[name].longer)
        for seed in study.config.seeds
        for fold in study.config.folds
        for source in study.sources or {"": ""}
        for name in study.config.methods
    ]


def _of(names: Sequence[str], study: Study) -> str:
    """Which methods have a fault."""
    few = list(dict.fromkeys(names))
    return f"methods.{few[0]}" if len(few) == 1 else f"{len(few)} of {len(study.config.methods)} methods"


def _load(study: Study, name: str, method: Method, source: str, look: Look, overrides: Sequence[str]) -> Loaded:
    sites = [f"data.{key}={text}" for key, text in _sites(study, source, look).items()]
    names = [f"data.source.name={source}"] if source else []
    words = [*study.config.overrides, *method.overrides, *overrides]
    for word in words:
        if word.lstrip("+-").startswith("seed=") or word.lstrip("+-").startswith("data.split.fold="):
            raise UsageError(f"override {word!r}: the study's own keys 'seeds' and 'folds' say this.")
    loaded = load_experiment(_experiment(method.experiment, study.path.parent), [*sites, *names, *words])
    config = loaded.config
    for fold in study.config.folds:
        if fold >= config.data.split.folds:
            raise UsageError(
                f"folds: there are {config.data.split.folds} (data.split.folds), from 0 on, and no {fold}."
            )
    if not config.data.held_out:
        raise UsageError("no site is held out; name some under 'test', or in the experiment.")
    _refuse_other_kind(config, look)
    return loaded


def _sites(study: Study, source: str, look: Look) -> dict[str, str]:
    """``data.source`` and ``data.held_out`` as far as the study says them."""
    held_out = dict(study.dev if look == "dev" else study.test)
    if look == "test":
        held_out |= {name: site for name, site in study.sources.items() if name != source}
    held_out.pop(source, None)
    written = {"source": study.sources[source]} if source else {}
    if held_out or source:
        written["held_out"] = "{" + ", ".join(f"'{name}': {site}" for name, site in held_out.items()) + "}"
    return written


def _experiment(name: str, folder: Path) -> Path:
    beside = folder / name
    return beside if beside.is_file() else find_experiment(name)


def _refuse_other_kind(config: ExperimentConfig, look: Look) -> None:
    for name, site in config.data.held_out.items():
        role = builtin_site(site.site).role if isinstance(site, PhantomSite) else look
        if role != look and role in ("dev", "test"):
            raise UsageError(f"{name} is a phantom site for '{role}', and the look is '{look}': {_OTHER[look]}")


_OTHER = {
    "dev": "what a method is chosen by is not tested on afterwards; take --look test, or other sites under 'dev'.",
    "test": "it serves for choosing, so it tests nothing; take --look dev, or other sites under 'test'.",
}


def _cell(study: Study, look: Look, method: str, loaded: Loaded, seed: int, fold: int, longer: float) -> Cell:
    config = loaded.config
    trainer = replace(config.trainer, max_steps=_steps(config, longer), progress_bar=False)
    data = replace(config.data, split=replace(config.data.split, fold=fold))
    resolved: dict[str, Any] = {
        **loaded.resolved,
        "seed": seed,
        "data": loaded.resolved["data"] | {"split": loaded.resolved["data"]["split"] | {"fold": fold}},
        "trainer": loaded.resolved["trainer"] | {"max_steps": trainer.max_steps, "progress_bar": False},
    }
    config = replace(config, seed=seed, data=data, trainer=trainer)
    return Cell(study.config.name, look, method, config, resolved)


def _steps(config: ExperimentConfig, longer: float) -> int:
    """Steps of a run that takes ``longer`` times as long, up to a validation: only there can the best be."""
    steps, every = config.trainer.max_steps, config.trainer.validate_every
    if longer == 1:
        return steps
    return max(1, round(steps * longer / every)) * every if steps >= every else max(1, round(steps * longer))


def chosen(cells: Sequence[Cell], methods: Sequence[str]) -> list[Cell]:
    """The cells of some methods; of all where none is named.

    Raises:
        UsageError: there is no such method.
    """
    known = list(dict.fromkeys(cell.method for cell in cells))
    for method in methods:
        if method not in known:
            raise UsageError(f"--only {method}: there is no such method; {did_you_mean(method, known)}")
    return [cell for cell in cells if not methods or cell.method in methods]


def alike(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Cells of the same settings together: they are one run."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.hash, []).append(cell)
    yield from groups.values()
