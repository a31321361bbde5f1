"""What all tests share: a patient hypothesis, a store of their own, and a run small enough for seconds."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before torch is there: a fork of a process with a pool of threads waits for them forever.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("pansite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("pansite"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "pansite")


def _untraced() -> None:
    """What a fork covers is never collected, and tracing makes it a third slower."""
    sys.settrace(None)
    threading.settrace(None)


os.register_at_fork(after_in_child=_untraced)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than there are cores: who tests a cluster or a dying rank mostly waits."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, SLURM's before all: what is long must not begin when the others are at their end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.get_closest_marker("slurm") is None, item.path not in slow))


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_users_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the caches, accounts and data of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        # Where matplotlib keeps its list of fonts, which takes seconds to make.
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", str(Path("~/.cache/matplotlib").expanduser())))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("WANDB_MODE", "disabled")
        for name in ("WANDB_API_KEY", "PANSITE_DATA", "XDG_CACHE_HOME"):
            patch.delenv(name, raising=False)
        yield


TINY = """
extends: {base}
name: tiny
data:
  source: {{name: source, layout: phantom, site: source, cases: 6, root: {phantoms}}}
  held_out:
    north: {{layout: phantom, site: north, cases: 1, root: {phantoms}}}
    west: {{layout: phantom, site: west, cases: 2, root: {phantoms}}}
  spacing: [6.0, 6.0, 6.0]
  patch_size: [16, 16, 16]
  store: {home}/store
  split: {{folds: 3}}
model:
  network: {{name: dynunet, filters: [4, 8, 16]}}
  contrastive: {{slots: [4, 16, 8, 8]}}
trainer: {{max_steps: 6, validate_every: 3, checkpoint_every: 2, log_every: 1, progress_bar: false}}
evaluation: {{overlap: 0.0}}
logging: {{wandb: disabled}}
"""
SPACINGS = (6.0, 9.0)
"""mm: of the tiny experiment, and of tests that want it smaller still."""
"""The demo's experiment on six small cases, coarse grid, six steps."""


@dataclass(frozen=True)
class Tiny:
    """A tiny experiment.

    Attributes:
        file: its YAML.
        home: where its store is.
        phantoms: root of its phantom sites, shared by all processes that test.
    """

    file: Path
    home: Path
    phantoms: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The tiny experiment, its store shared by all tests of this process and filled once for all processes."""
    home = tmp_path_factory.mktemp("tiny")
    session = tmp_path_factory.getbasetemp()
    session = session.parent if "PYTEST_XDIST_WORKER" in os.environ else session
    phantoms, filled = session / "phantoms", session / "filled"
    file = home / "tiny.yaml"
    file.write_text(TINY.format(base="phantom_quick.yaml", home=home, phantoms=phantoms))
    with (session / "filling").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not filled.exists():
            _fill(file, home / "store")
            shutil.copytree(home / "store", filled)
    if not (home / "store").exists():
        shutil.copytree(filled, home / "store")
    return Tiny(file, home, phantoms)


def _fill(file: Path, store: Path) -> None:
    """Prepare the sites of the tiny experiment, which makes its phantoms."""
    from datamodules.prepare import prepare_site
    from experiments.configuration import load_experiment

    data = load_experiment(file).config.data
    for spacing in SPACINGS:
        for site in (data.source, *data.held_out.values()):
            prepare_site(site, (spacing,) * 3, data.structure, store, progress=False)


@pytest.fixture
def pansite(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command, in this process: exit code, what it printed, what it complained of."""
    from experiments.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def without_pages() -> Iterator[None]:
    """A word in the place of each report, whose drawing makes up a third of so small a run and has its own tests."""
    from experiments.report import page
    from tests import kills

    drawn = page.render
    kills.without_pages()
    yield
    page.render = drawn
